"""A configuration that fits images, a machine and a time."""

from snowmelt.training.proposal.look import Look
from snowmelt.training.proposal.propose import Proposal, as_they_are, minimal, propose, settled

__all__ = ["Look", "Proposal", "as_they_are", "minimal", "propose", "settled"]
