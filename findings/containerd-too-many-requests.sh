#!/bin/bash
# usage: containerd-too-many-requests.sh
#   containerd 1.7.24 (Debian trixie; 1.6.20 of bookworm and 2.1.9 of sid do the same) answers a registry's 429 with five more requests
#   at once, and does not look at its Retry-After.
#   Expected: it waits as long as it is told, or it asks the next mirror of hosts.toml right away.
#   Seen: six requests for the same manifest within a fraction of a second, though each answer said to wait for 2 seconds; then the next host.
#   It matters: a limit that protects the one registry of a site while all nodes pull makes six requests of each, and with several
#   mirrors the busy one gets the six before the idle one gets the first.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=lib.sh
. "$here/lib.sh"
[ "$(id -u)" = 0 ] || die "only root can run containerd"
debian trixie containerd=1.7.24~ds1-6+deb13u1
cd "$work"
cat > busy.py << 'END'
import http.server, sys, time
class Busy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def busy(self):
        print("%.3f" % time.time(), self.command, self.path, flush=True)
        self.send_response(429)
        self.send_header("Retry-After", "2")
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_HEAD = busy
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 5961), Busy).serve_forever()
END
python3 busy.py > asked &
served+=("$!")
containerd trixie
mkdir -p hosts/example.test
# nothing listens at port 1, the registry itself
printf 'server = "http://127.0.0.1:1"\n[host."http://127.0.0.1:5961"]\ncapabilities = ["pull", "resolve"]\n' > hosts/example.test/hosts.toml
for ((try = 0; try < 50; try++)); do if (: < /dev/tcp/127.0.0.1/5961) 2> /dev/null; then break; fi; sleep 0.1; done
if from trixie ctr -a "$work/containerd.sock" content fetch --hosts-dir hosts example.test/app:1 > message 2>&1; then changed "something was fetched"; fi
[ -s asked ] || { cat message >&2; die "nobody asked the registry"; }
same "requests" "$(cut -d' ' -f2,3 asked | sort | uniq -c | tr -s ' ')" " 6 HEAD /v2/app/manifests/1?ns=example.test"
span=$(awk 'NR == 1 { first = $1 } END { printf "%.3f", $1 - first }' asked)
awk -v span="$span" 'BEGIN { exit !(span < 2) }' || changed "it waited: $span seconds"
saw "six requests in $span seconds, each answered with 429 and Retry-After: 2"
saw "then it goes on to the next host: $(grep -o 'dial tcp 127.0.0.1:1: .*' message | tail -n 1)"
