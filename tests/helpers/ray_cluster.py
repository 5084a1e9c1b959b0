"""A Ray cluster of machines with one place each, all of them on this one; a process of its own.

    python -m helpers.ray_cluster 2

prints a line with its address, and ends it with its own end of input. It ends what it started and no other cluster.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster()
    for _ in range(int(sys.argv[1])):
        cluster.add_node(num_cpus=1, object_store_memory=100_000_000, include_dashboard=False)
    print("address", cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()


main()
