"""One rank: the first listens, the others say hello to it. Plain sockets stand in for `torch.distributed`."""

import os
import socket
import time

rank, nodes = int(os.environ["GPUPLAN_NODE_INDEX"]), int(os.environ["GPUPLAN_NODES"])
master = os.environ["GPUPLAN_PEERS"].split(",")[0], int(os.environ["MASTER_PORT"])
if rank == 0:
    with socket.create_server(master) as server:
        for _ in range(1, nodes):
            other, _ = server.accept()
            print("met", other.recv(100).decode())
else:
    while True:
        try:
            with socket.create_connection(master) as leader:
                leader.sendall(f"rank {rank} of {nodes}".encode())
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
