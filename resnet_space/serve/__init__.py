"""Everything a public page needs: limits, visitors, storage, sign-in.

`launch` reads the command line. `connections` and `guard` protect the app (`answers` changes its responses), `handlers`
wraps every handler, and `slots` limits heavy work; `limits`, `rates` and `sessions` define how much a visitor may use.
`visitors` manages ownership; `inventory`, `storage` and `temporary` manage disk space and expiry; `datasets` manages
access to datasets; `uploads` receives files; `identity` selects the Hub account; `refusals` formats messages. `zero/`
hosts trainings on ZeroGPU. Import from the modules.
"""
