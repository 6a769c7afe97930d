"""A configuration that fits images, a machine and a time."""

from snowmelt.training.proposal.look import Look
from snowmelt.training.proposal.propose import Proposal, minimal, propose, settled

__all__ = ["Look", "Proposal", "minimal", "propose", "settled"]
