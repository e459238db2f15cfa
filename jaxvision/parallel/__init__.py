"""The placement of arrays: the mesh of devices, rules that shard a train state over it, and the processes of a job."""
