"""Few-step students: networks that are trained to do in 1 to 4 evaluations what a teacher does in many.

A teacher turns noise into images along a path that is an ODE's: the same noise gives the same image. The
student learns those pairs. Each noise is solved once, and the student sees it many times. So distillation
needs no images but the teacher's own, and no teacher beside the student while it learns.
"""

from snowmelt.distillation.pairs import Pairs
from snowmelt.distillation.run import Distillation
from snowmelt.distillation.student import make_student, student_rows
from snowmelt.distillation.teacher import Teacher

__all__ = ["Distillation", "Pairs", "Teacher", "make_student", "student_rows"]
