"""The decision server: policies over HTTP and gRPC (Open Inference Protocol v2, KServe) and shared memory (iceoryx2).

`policy` decides, `signature` says which tensors that takes and gives, `deadline` and `gate` refuse what is late or too
much; `http` and `shm` are the two ways in, `client` is the other end of the shared memory.
"""
