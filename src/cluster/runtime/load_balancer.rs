//! The load balancer of the API servers on workers: the unit that runs [`crate::service::apiserver_balancer`].

use std::net::SocketAddr;

use crate::cluster::{DesiredState, api_server};
use crate::paths;
use crate::resource::{File, Resource, SystemdUnit};

const UNIT: &str = "sealift-apiserver-balancer.service";

/// The desired resources of the load balancer on a worker: a systemd unit that runs `sealift balance`.
pub fn resources(desired: &DesiredState) -> Vec<Resource> {
    let path = format!("/etc/systemd/system/{UNIT}");
    let masters: Vec<String> = desired.masters().map(|master| SocketAddr::new(master.address(), api_server::PORT).to_string()).collect();
    let text = format!(
        "# written by sealift\n\
        [Unit]\nDescription=way to the API servers\nAfter=network.target\n\n\
        [Service]\nExecStart={} balance --listen 127.0.0.1:{} {}\nRestart=always\nRestartSec=1\nLimitNOFILE=65536\n\n\
        [Install]\nWantedBy=multi-user.target\n",
        paths::EXECUTABLE,
        api_server::PORT,
        masters.join(" ")
    );
    vec![Resource::File(File::new(path.as_str(), text, 0o644)), Resource::SystemdUnit(SystemdUnit::running(UNIT, [path.as_str()]))]
}
