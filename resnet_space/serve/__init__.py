"""What a page for strangers needs.

`launch` reads the command line; `guard` and `rates` stand before every handler, `limits` say what may be asked for;
`visitors` knows whose things are whose, `storage` for how long they are kept, `uploads` which files a request may name,
`identity` in whose name the Hub is asked; `refusals` is how a visitor is told no; `zero/` hosts trainings on ZeroGPU.
Import from the modules.
"""
