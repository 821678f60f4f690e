//! User namespaces of a test's own.

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A user namespace in which root is root of the ids 0 to 65535. It is there as long as this is.
pub struct UserNamespace {
    /// Ends when its input does.
    holder: Child,
}

impl UserNamespace {
    /// Makes one.
    pub fn new() -> Self {
        let holder = Command::new("unshare").args(["--user", "cat"]).stdin(Stdio::piped()).spawn().expect("unshare is there");
        let made = UserNamespace { holder };
        let at = |file: &str| Path::new("/proc").join(made.id()).join(file);
        let mine = std::fs::read_link("/proc/self/ns/user").expect("/proc is there");
        super::wait_until("the namespace is made", || std::fs::read_link(at("ns/user")).is_ok_and(|its| its != mine));
        for map in ["uid_map", "gid_map"] {
            std::fs::write(at(map), "0 0 65536").expect("root may map its ids");
        }
        made
    }

    /// The arguments that run a shell script as its root, through the program `wrapped`: `nsenter … WRAPPED sh -euc`.
    pub fn enter(&self, wrapped: &[&str]) -> Vec<String> {
        let id = self.id();
        let enter = ["nsenter", "--user", "--target", &id, "--setuid", "0", "--setgid", "0"];
        enter.iter().chain(wrapped).chain(&["sh", "-euc"]).map(|&word| word.to_owned()).collect()
    }

    fn id(&self) -> String {
        self.holder.id().to_string()
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        self.holder.wait().ok();
    }
}
