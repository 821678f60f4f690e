#!/usr/bin/env python3
"""usage: benches/kill_members.py [KILLS] [SEED]     (default 30 kills)

Changes the members of a real Kubernetes cluster of five test hosts, and strikes in the middle of each change: sealift is killed, the
agent of the host concerned is, the host loses its power, or its network for 25 s. Then the same command is given again until it succeeds,
three times at most. After each change the nodes are those wanted, ready and schedulable, etcd's members are the masters, a plan has 0
changes; while it goes on, etcd answers on some master at least every 20 s. At last the cluster is reset and nothing may be left.

Prints a line for each change and `N of KILLS finished`; exits 1 if one did not. Needs root, the images that scripts/test.sh makes its
tests with (it makes them if they are missing), a build of sealift ($SEALIFT, else the newest in target). TESTHOST_ID (default 10) is
the instance of its hosts.
"""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
IDENTITY = os.environ.setdefault("TESTHOST_ID", "10")
KUBECTL = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 8s"
ETCDCTL = (
    "ETCDCTL_API=3 etcdctl --command-timeout 8s --endpoints https://127.0.0.1:2379 --cacert /etc/kubernetes/pki/etcd/ca.crt "
    "--cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key"
)
HOSTS = [1, 2, 3, 4, 5]
STRIKES = ["sealift", "agent", "power", "network"]


def testhost(*args, check=True):
    done = subprocess.run([f"{ROOT}/scripts/testhost.sh", *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        sys.exit(f"testhost.sh {' '.join(args)}: {done.stderr}")
    return done


def on(host, line):
    """What a shell line prints on a host; None if it fails."""
    done = testhost("exec", f"h{host}", "sh", "-c", line, check=False)
    return done.stdout if done.returncode == 0 else None


class Cluster:
    def __init__(self, work, sealift):
        self.work, self.sealift = work, sealift
        self.masters, self.nodes, self.down = [1, 2, 3], [4], set()
        self.environment = {**os.environ, "SEALIFT_HOME": f"{work}/state", "SEALIFT_STORE": f"{work}/store"}

    def start(self, args, log):
        command = [self.sealift, "--quiet", *args]
        return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ok(self, *args):
        done = subprocess.run([self.sealift, "--quiet", *args], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"sealift {' '.join(args)}: {done.returncode}\n{done.stderr}")
        return done.stdout

    def addresses(self, hosts):
        return ",".join(f"10.213.{IDENTITY}.{10 + host}" for host in hosts)

    def members(self):
        return ["-m", self.addresses(self.masters), "-n", self.addresses(self.nodes)] if self.nodes else ["-m", self.addresses(self.masters)]

    def nodes_seen(self):
        """The nodes as the API has them: `h1*` a master, `h4!` not ready or not schedulable."""
        for host in self.masters:
            text = on(host, f"{KUBECTL} get nodes -o json")
            if not text:
                continue
            seen = []
            for node in json.loads(text)["items"]:
                ready = any(it["type"] == "Ready" and it["status"] == "True" for it in node["status"]["conditions"])
                master = "node-role.kubernetes.io/master" in node["metadata"]["labels"]
                fit = ready and not node["spec"].get("unschedulable")
                seen.append(node["metadata"]["name"] + ("*" if master else "") + ("" if fit else "!"))
            return sorted(seen)
        return []

    def wanted(self):
        return sorted([f"h{host}*" for host in self.masters] + [f"h{host}" for host in self.nodes])

    def etcd_members(self):
        for host in self.masters:
            text = on(host, f"{ETCDCTL} member list")
            if text:
                return sorted(line.split(", ")[2] for line in text.splitlines())
        return []

    def problem(self):
        """What is not as it shall be; None if all is well, within two minutes."""
        deadline = time.time() + 120
        while True:
            seen, etcd = self.nodes_seen(), self.etcd_members()
            if seen == self.wanted() and etcd == sorted(f"h{host}" for host in self.masters):
                break
            if time.time() > deadline:
                return f"nodes {seen}, etcd {etcd}, wanted {self.wanted()}"
            time.sleep(2)
        plan = subprocess.run(
            [self.sealift, "--quiet", "plan", "--name", "drill", "--pk", self.key(), "--host-key", "off"],
            env=self.environment, capture_output=True, text=True,
        )
        return None if plan.returncode == 0 and "0 changes" in plan.stdout else f"plan: {plan.returncode} {plan.stdout[-600:]}{plan.stderr[-600:]}"

    def key(self):
        return testhost("key").stdout.strip()

    def next_change(self, chance):
        """Another membership, and the host that it is about: (name, host)."""
        free = [host for host in HOSTS if host not in self.masters + self.nodes]
        changes = []
        if free and len(self.nodes) < 2:
            changes.append("add")
        if self.nodes and len(self.masters) == 3:
            changes += ["remove"]
        if len(self.masters) == 3:
            changes += ["demote", "replace"]
        if len(self.masters) == 2 and self.nodes:
            changes += ["promote"] * 3
        name = chance.choice(changes)
        host = chance.choice({"add": free, "remove": self.nodes, "promote": self.nodes}.get(name, self.masters))
        for members in (self.masters, self.nodes):
            if name != "replace" and host in members:
                members.remove(host)
        if name in ("add", "demote"):
            self.nodes.append(host)
        if name == "promote":
            self.masters.append(host)
        return name, host


class QuorumWatch(threading.Thread):
    """The longest time in which etcd answered on no master."""

    def __init__(self, cluster, subject):
        super().__init__(daemon=True)
        self.asked = [host for host in cluster.masters if host != subject]
        self.longest, self.ended = 0.0, False

    def run(self):
        last = time.time()
        while not self.ended:
            if any(on(host, f"{ETCDCTL} endpoint health") is not None for host in self.asked):
                last = time.time()
            self.longest = max(self.longest, time.time() - last)
            time.sleep(1)


def strike(kind, host, process):
    if kind == "sealift":
        process.send_signal(signal.SIGKILL)
    elif kind == "agent":
        on(host, "pkill -9 -f 'sealift.* agent'")
    elif kind == "power":
        testhost("stop", f"h{host}")
        time.sleep(3)
        testhost("start", f"h{host}")
    elif kind == "network":
        on(host, "nft add table inet drill && nft add chain inet drill in '{ type filter hook input priority -300; policy drop; }'")
        time.sleep(25)
        on(host, "nft delete table inet drill")


def prepare(work):
    with open(f"{work}/log", "w") as log:
        for command in (
            [f"{ROOT}/scripts/kubernetes-from-debian.sh", f"{work}/kubernetes"],
            [f"{ROOT}/scripts/container-images.py", f"{work}/kubernetes", f"{work}/container-images"],
            [f"{ROOT}/kubefiles/kubernetes/prepare.sh", f"{work}/kubernetes", f"{work}/context"],
        ):
            subprocess.run(command, check=True, stdout=log, stderr=log)


def drills(cluster, kills, chance, log):
    finished = 0
    for number in range(1, kills + 1):
        name, host = cluster.next_change(chance)
        kind = STRIKES[(number - 1) % len(STRIKES)]
        wait = chance.uniform(1, 30)
        if name == "replace":
            testhost("destroy", f"h{host}")
            testhost("create", f"h{host}", f"10.213.{IDENTITY}.{10 + host}")
            command = ["apply", "drill", "--yes", "--host-key", "off", "--pk", cluster.key()]
        else:
            lists = ["--masters", cluster.addresses(cluster.masters), "--nodes", cluster.addresses(cluster.nodes)]
            command = ["scale", "drill", "--yes", "--host-key", "off", "--pk", cluster.key(), *lists]
        watch = QuorumWatch(cluster, host)
        watch.start()
        began = time.time()
        process = cluster.start(command, log)
        try:
            process.wait(wait)
            struck = "ended before"
        except subprocess.TimeoutExpired:
            strike(kind, host, process)
            struck = f"{kind} struck after {wait:.0f} s"
        codes = [process.wait()]
        while codes[-1] != 0 and len(codes) < 4:
            codes.append(cluster.start(command, log).wait())
        problem = cluster.problem() if codes[-1] == 0 else "did not succeed"
        watch.ended = True
        watch.join()
        if watch.longest > 20:
            problem = f"etcd answered on no master for {watch.longest:.0f} s; {problem or ''}"
        finished += problem is None
        say = problem or "well"
        print(f"{number:2} {name} h{host}: {struck}, exit codes {codes}, {time.time() - began:.0f} s: {say}", flush=True)
        if problem:
            log.flush()
            break
    return finished


def main():
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        sys.exit(__doc__.strip())
    kills, seed = int((sys.argv[1:2] or ["30"])[0]), int((sys.argv[2:3] or [str(int(time.time()))])[0])
    builds = [path for path in glob.glob(f"{ROOT}/target/*/*/sealift") if os.access(path, os.X_OK)]
    sealift = os.environ.get("SEALIFT") or max(builds, key=os.path.getmtime)
    work = tempfile.mkdtemp(prefix="sealift-drill.", dir="/var/tmp")
    log = open(f"{work}/runs.log", "w")
    cluster, keep = Cluster(work, sealift), False
    try:
        prepare(work)
        images = ["--from-archive", f"{work}/container-images"]
        cluster.ok("build", "-t", "kubernetes:1", "-f", f"{ROOT}/kubefiles/kubernetes/Kubefile", *images, f"{work}/context")
        cluster.ok("build", "-t", "demo:1", "--build-arg", "BASE=kubernetes:1", "-f", f"{ROOT}/kubefiles/demo/Kubefile", *images, f"{ROOT}/kubefiles/demo")
        testhost("up", str(len(HOSTS)))
        cluster.ok("run", "demo:1", "--name", "drill", "--pk", cluster.key(), *cluster.members())
        print(f"seed {seed}: up, {' '.join(cluster.nodes_seen())}", flush=True)
        finished = drills(cluster, kills, random.Random(seed), log)
        if finished == kills:
            cluster.ok("reset", "--name", "drill", "--yes", "--pk", cluster.key(), "--host-key", "off")
            left = "ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd /var/lib/sealift /usr/bin/kube* 2>/dev/null; true"
            dirty = {host: text for host in HOSTS if (text := on(host, left))}
            if dirty:
                finished, keep = finished - 1, True
                print(f"left after the reset: {dirty}")
        print(f"{finished} of {kills} finished")
        keep = keep or finished < kills
        sys.exit(0 if finished == kills else 1)
    finally:
        log.close()
        if keep:
            print(f"the hosts and {work} stay for a look: TESTHOST_ID={IDENTITY} scripts/testhost.sh down")
        else:
            testhost("down", check=False)
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
