"""Diagnosis: which conventions does a network really follow?"""
