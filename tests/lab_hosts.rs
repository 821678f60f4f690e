//! Test hosts come up as small servers, keep apart from other instances, and leave nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::hosts::{Hosts, PASSWORD};

#[test]
fn hosts_answer_keep_their_disks_over_power_loss_and_leave_nothing() {
    let hosts = Hosts::up(2);
    let second = hosts.addresses()[1];
    let gateway = hosts.gateway();
    assert_eq!(hosts.run("h1", "systemctl is-system-running --wait").trim(), "running");
    hosts.run("h1", &format!("ping -c 1 -W 2 {second}"));
    hosts.run("h1", &format!("ping -c 1 -W 2 {gateway}"));
    hosts.run("h1", "echo kept > /var/lib/kept; echo kept > /etc/kept; sync");
    hosts.stop("h1");
    assert!(!hosts.succeeds("h1", "true"));
    hosts.start("h1");
    assert_eq!(hosts.run("h1", "cat /var/lib/kept /etc/kept"), "kept\nkept\n");
    let state = hosts.key();
    drop(hosts);
    assert!(!state.exists());
}

#[test]
fn a_host_has_a_user_whose_sudo_asks_and_one_whose_does_not() {
    let hosts = Hosts::up(1);
    hosts.run("h1", "su deploy -c 'sudo -n true'");
    assert!(!hosts.succeeds("h1", "su ops -c 'sudo -n true'"));
    hosts.run("h1", &format!("su ops -c 'echo {PASSWORD} | sudo -S true'"));
}
