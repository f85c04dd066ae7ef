"""A task that tries to get where users' code has no business, and says what it got."""

import glob
import os
import subprocess
import tempfile

import torch

import lockstep


def attempt(what, act):
    try:
        result = act()
        print(f"nosy {what}: {result if result is not None else 'done'}", flush=True)
    except Exception as error:
        print(f"nosy {what}: {type(error).__name__}", flush=True)


def write(path):
    with open(path, "w") as file:
        file.write("x")


def daemon():
    return os.getppid()


class Nosy(lockstep.Task):
    def model(self):
        return torch.nn.Linear(1, 1)

    def dataset(self):
        credentials = glob.glob("/run/credentials/*")
        attempt("user", lambda: f"{os.getuid() == 0} {os.getgroups() == [os.getgid()]}")
        attempt("key of the machine", lambda: open("/etc/lockstep/tls/worker/key.pem").read())
        attempt("credential of the daemon", lambda: [open(f"{path}/tls_key.pem").read() for path in credentials])
        attempt("list of credentials", lambda: [os.listdir(path) for path in credentials])
        attempt("environment of the daemon", lambda: open(f"/proc/{daemon()}/environ").read())
        attempt("memory of the daemon", lambda: open(f"/proc/{daemon()}/mem", "r+b"))
        attempt("descriptors of the daemon", lambda: os.listdir(f"/proc/{daemon()}/fd"))
        attempt("signal to the daemon", lambda: os.kill(daemon(), 0))
        attempt("file in /tmp", lambda: write("/tmp/nosy"))
        attempt("file in /var/tmp", lambda: write("/var/tmp/nosy"))
        attempt("file in /etc", lambda: write("/etc/nosy"))
        attempt("file in the code", lambda: write("nosy"))
        attempt("file beside models", lambda: write("/var/lib/lockstep/nosy"))
        attempt("another engine's folder", lambda: os.listdir(os.path.dirname(tempfile.gettempdir())))
        group = open("/proc/self/cgroup").read().strip().split("::")[1]
        attempt("way out of its group", lambda: write_group(group))
        attempt("root", lambda: os.setuid(0))
        attempt("big file", big_file)
        attempt("file of its own", lambda: write(os.path.join(tempfile.gettempdir(), "nosy")))
        attempt("shared memory of its own", lambda: write("/dev/shm/nosy"))
        closed = os.path.join(tempfile.gettempdir(), "closed", "below")
        os.makedirs(closed)
        os.chmod(closed, 0)
        os.chmod(os.path.dirname(closed), 0)
        # Whoever has lost all its parents has not got away.
        subprocess.Popen(["sh", "-c", "setsid sleep 4321 & exit"], env={})
        x = torch.linspace(-1, 1, 96).reshape(-1, 1)
        return torch.utils.data.TensorDataset(x, 3 * x + 1)

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    def optimizer(self, model):
        return torch.optim.SGD(model.parameters(), lr=0.3)


def write_group(group):
    with open(f"/sys/fs/cgroup{os.path.dirname(group)}/daemon/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))


def big_file():
    path = os.path.join(tempfile.gettempdir(), "big")
    with open(path, "wb") as file:
        file.truncate(3 * 2**20)
    os.unlink(path)
