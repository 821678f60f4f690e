//! Keys and signatures of tests.

use super::sealift::Sealift;

const PASSWORD: &str = "correct horse";

/// A pair of keys in the home of `who`, `NAME.key` and `NAME.pub`; a file `password` with the password beside them.
pub fn keys(who: &Sealift, name: &str) -> (String, String) {
    let password = who.home().join("password");
    std::fs::write(&password, PASSWORD).expect("it is written");
    let prefix = who.home().join(name).display().to_string();
    who.ok(&["key", "generate", "--output-key-prefix", &prefix, "--password-file", &password.display().to_string()]);
    (format!("{prefix}.key"), format!("{prefix}.pub"))
}

/// Signs an image with a key of [`keys`].
pub fn sign(who: &Sealift, name: &str, key: &str, more: &[&str]) {
    let password = who.home().join("password").display().to_string();
    who.ok(&[&["sign", name, "--key", key, "--password-file", &password], more].concat());
}
