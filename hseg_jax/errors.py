"""The one exception that stands for a mistake of the user's, not of the program's."""


class UserError(ValueError):
  """A mistake the user can mend: one sentence that names the thing and the remedy.

  The command line prints the sentence and exits with code 2; in a notebook it is a `ValueError`.
  """
