"""Where arrays lie: the mesh of devices, the rules that spread a train state over it, and the processes of a job."""
