"""What a page for strangers needs.

`launch` reads the command line. `connections` and `guard` stand before the app (`answers` is what it changes in those),
`handlers` around every handler, and `slots` before the memory is taken; `limits`, `rates` and `sessions` say how much
one may have. `visitors` knows whose things are whose; `inventory`, `storage` and `temporary` for how long they are
kept; `datasets` who may use which; `uploads` takes what is sent; `identity` says in whose name the Hub is asked;
`refusals` is how a visitor is told no. `zero/` hosts trainings on ZeroGPU.
Import from the modules.
"""
