"""A real SLURM cluster on this host: a controller and three node daemons of one CPU each, in a temporary folder."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import psutil
import pytest

NODES = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]  # names that resolve everywhere; each is a loopback address
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmctldPidFile={root}/slurmctld.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdSpoolDir={root}/spool.%n
SlurmdPidFile={root}/slurmd.%n.pid
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdTimeout=10
KillWait=5
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


class Slurm:
    """The daemons; environment variables lead SLURM's commands and submitit to them."""

    def __init__(self, root):
        self.root, self.daemons = root, {}
        for name in ("munge", "state", *(f"spool.{node}" for node in NODES)):
            (root / name).mkdir()
        (root / "munge").chmod(0o711)
        key = root / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        ports = free_ports(1 + len(NODES))
        lines = [
            f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr={node} Port={port} CPUs=1 RealMemory=1000"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        self.config = root / "slurm.conf"
        self.config.write_text(
            CONFIG.format(root=root, port=ports[0], host=socket.gethostname(), nodes="\n".join(lines))
        )
        os.environ["SLURM_CONF"] = str(self.config)
        files = [f"--{kind}-file={root}/munge/{kind}" for kind in ("key", "pid", "log", "seed")]
        self.start("munge", "munged", "--foreground", "--force", f"--socket={root}/munge/socket", *files)
        until(lambda: (root / "munge" / "socket").exists())
        self.start("controller", "slurmctld", "-D", "-f", str(self.config))
        for node in NODES:
            self.start_node(node)
        until(lambda: self.nodes() == dict.fromkeys(NODES, "idle"), 60)

    def start(self, name, *words):
        with (self.root / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(words, stdout=out, stderr=out, start_new_session=True)

    def start_node(self, node):
        self.start(node, "slurmd", "-D", "-N", node, "-f", str(self.config))

    def kill_node(self, node):
        """As if its power went: the daemon and all that it has started, at once."""
        log = str(self.root / f"slurmd.{node}.log")
        steps = [
            p
            for p in psutil.process_iter(["name", "cmdline"])
            if " ".join(p.info["cmdline"] or ()).startswith("slurmstepd")
        ]
        steps = [p for p in steps if log in {file.path for file in p.open_files()}]
        doomed = [psutil.Process(self.daemons[node].pid), *steps]
        doomed += [child for step in doomed for child in step.children(recursive=True)]
        for process in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.daemons.pop(node).wait()

    def revive_node(self, node):
        self.start_node(node)
        until(lambda: self.nodes()[node] == "idle")

    def nodes(self):
        lines = self.output("sinfo", "--Node", "--noheader", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    @staticmethod
    def output(*words):
        return subprocess.run(words, capture_output=True, text=True).stdout

    def job(self, job):
        """SLURM's own record of a job."""
        words = self.output("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def stop(self):
        subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], capture_output=True)
        subprocess.run(["scancel", "--user=root"], capture_output=True)
        try:
            until(lambda: not self.output("squeue", "--noheader"), 20)
        finally:
            for daemon in reversed(self.daemons.values()):
                daemon.terminate()
                daemon.wait(20)
            del os.environ["SLURM_CONF"]


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="session", name="until")
def until_fixture():
    """`until(condition, seconds=30)`: its value once it is true."""
    return until


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"needs SLURM's daemons ({', '.join(missing)}): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons start jobs of others: only root can run them")
    pytest.importorskip("submitit")
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.stop()
