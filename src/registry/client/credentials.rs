//! Credentials in the config files of docker and podman and in their credential helpers (containers-auth.json(5)).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use crate::atomic_file;
use crate::error::Failure;

/// The credential for a registry.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A user name and a password.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A refresh token, which token services exchange for access tokens (OAuth2).
    IdentityToken(SecretString),
}

/// The key of Docker Hub in the config files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The key of a registry in the config files.
fn config_key(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

/// Finds the credential for a repository: in the first file that has one, by the longest matching key.
pub fn find(files: &[PathBuf], registry: &str, repository: &str) -> Result<Option<Credential>> {
    for file in files {
        let Some(text) = read(file)? else { continue };
        if let Some(credential) = find_in(&text, registry, repository).with_context(|| unreadable(file))? {
            return Ok(Some(credential));
        }
    }
    Ok(None)
}

fn unreadable(file: &Path) -> Failure {
    Failure::failed(format!("cannot read credentials in {}", file.display())).hint("log in again with `sealift login HOST`")
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs_err::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn find_in(text: &str, registry: &str, repository: &str) -> Result<Option<Credential>> {
    let config = Value::Object(read_as_go(text)?);
    let text = config.to_string();
    let has_entry = |key: &&str| config["auths"].get(*key).is_some();
    let path = format!("{registry}/{repository}");
    let matching = std::iter::successors(Some(path.as_str()), |path| path.rsplit_once('/').map(|(parent, _)| parent));
    let matching = matching.take_while(|path| *path != registry).find(has_entry);
    for key in matching.into_iter().chain([config_key(registry), registry]) {
        match get_credential_from_reader(text.as_bytes(), key) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                return Ok(Some(Credential::Password { user, password: password.into() }));
            }
            Ok(DockerCredential::IdentityToken(token)) => return Ok(Some(Credential::IdentityToken(token.into()))),
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(CredentialRetrievalError::HelperFailure { stdout, .. }) if stdout.contains("not found") => {}
            Err(error) => {
                let helper = config.as_object().and_then(|config| helper(config, registry));
                let source = helper.map_or_else(String::new, |helper| format!("`docker-credential-{helper}`: "));
                return Err(anyhow::anyhow!("{source}{}", error.to_string().to_lowercase()));
            }
        }
    }
    Ok(None)
}

/// Reads a config file as docker, podman and all other programs in Go do: the names of fields in any case, the last one wins, the first JSON
/// value of the file counts, and base64 may have line ends in it.
fn read_as_go(text: &str) -> Result<Map<String, Value>> {
    let first = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>().next();
    let mut config = first.transpose().context("not JSON")?.unwrap_or_default();
    with_names(&mut config, &["auths", "credsStore", "credHelpers"]);
    for entry in config.get_mut("auths").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let Some(entry) = entry.as_object_mut() else { continue };
        with_names(entry, &["auth", "username", "password", "identitytoken"]);
        if let Some(auth) = entry.get("auth").and_then(Value::as_str) {
            let auth = without_padding_bytes(&auth.replace(['\r', '\n'], ""));
            entry.insert("auth".to_owned(), auth.into());
        }
    }
    Ok(config)
}

/// Gives fields their names, whatever their case was.
fn with_names(object: &mut Map<String, Value>, names: &[&str]) {
    for (name, value) in std::mem::take(object) {
        let known = names.iter().find(|known| known.eq_ignore_ascii_case(&name));
        object.insert(known.map_or(name, |known| (*known).to_owned()), value);
    }
}

/// Takes the zero bytes off the end of a password, in base64.
fn without_padding_bytes(auth: &str) -> String {
    match BASE64.decode(auth) {
        Ok(bytes) if bytes.ends_with(&[0]) => {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            BASE64.encode(&bytes[..end])
        }
        _ => auth.to_owned(),
    }
}

/// Stores user name and password for a registry in `file`, or in the credential helper that the file configures.
pub fn store_credentials(file: &Path, registry: &str, user: &str, password: &SecretString) -> Result<()> {
    let mut config = read_config(file)?;
    if let Some(helper) = helper(&config, registry) {
        let entry = json!({"ServerURL": config_key(registry), "Username": user, "Secret": password.expose_secret()});
        run_helper(&helper, "store", &entry.to_string())?;
        // an entry in the file would be read before the helper is asked
        if auths(&mut config).remove(config_key(registry)).is_some() {
            write_config(file, &config)?;
        }
        return Ok(());
    }
    let auth = BASE64.encode(format!("{user}:{}", password.expose_secret()));
    auths(&mut config).insert(config_key(registry).to_owned(), json!({"auth": auth}));
    write_config(file, &config)
}

/// Removes the credential of a registry; returns whether there was one.
pub fn remove_credentials(file: &Path, registry: &str) -> Result<bool> {
    let mut config = read_config(file)?;
    if let Some(helper) = helper(&config, registry) {
        run_helper(&helper, "erase", config_key(registry))?;
        return Ok(true);
    }
    let existed = auths(&mut config).remove(config_key(registry)).is_some();
    if existed {
        write_config(file, &config)?;
    }
    Ok(existed)
}

fn read_config(file: &Path) -> Result<Map<String, Value>> {
    match read(file)? {
        Some(text) => read_as_go(&text).with_context(|| unreadable(file)),
        None => Ok(Map::new()),
    }
}

fn write_config(file: &Path, config: &Map<String, Value>) -> Result<()> {
    // a symbolic link to the file stays a link
    let target = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    atomic_file::write(&target, format!("{}\n", serde_json::to_string_pretty(config)?).as_bytes(), 0o600)
}

fn auths(config: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    if !auths.is_object() {
        *auths = json!({});
    }
    auths.as_object_mut().expect("it was made an object")
}

/// The credential helper of a registry: its entry in `credHelpers`, else `credsStore`.
fn helper(config: &Map<String, Value>, registry: &str) -> Option<String> {
    let own = config.get("credHelpers").and_then(|helpers| helpers.get(config_key(registry)));
    own.or(config.get("credsStore")).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn run_helper(helper: &str, verb: &str, input: &str) -> Result<()> {
    let program = format!("docker-credential-{helper}");
    let missing = || Failure::failed(format!("cannot run credential helper `{program}`")).hint("install it, or use `--authfile FILE`");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(missing)?;
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).with_context(missing)?;
    let output = child.wait_with_output().with_context(missing)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "credential helper `{program} {verb}`: {}", stdout.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user_of(credential: Option<Credential>) -> String {
        match credential {
            Some(Credential::Password { user, password }) => format!("{user}:{}", password.expose_secret()),
            Some(Credential::IdentityToken(token)) => format!("token {}", token.expose_secret()),
            None => "nobody".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_entry_is_found() {
        let encoded = |text: &str| BASE64.encode(text);
        let text = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": encoded("hub:a:b")},
            "reg.example:5000": {"auth": encoded("all:1")},
            "reg.example:5000/team": {"auth": encoded("team:2")},
            "token.example": {"identitytoken": "xyz"},
            "plain.example": {"username": "u", "password": "p"},
            "empty.example": {},
        }})
        .to_string();
        for (registry, repository, expected) in [
            ("docker.io", "library/nginx", "hub:a:b"),
            ("reg.example:5000", "shop", "all:1"),
            ("reg.example:5000", "team/shop", "team:2"),
            ("reg.example:5000", "teams/shop", "all:1"),
            ("token.example", "x", "token xyz"),
            ("plain.example", "x", "u:p"),
            ("empty.example", "x", "nobody"),
            ("other.example", "x", "nobody"),
        ] {
            assert_eq!(user_of(find_in(&text, registry, repository).unwrap()), expected, "{registry}/{repository}");
        }
        assert!(find_in("{", "a", "b").is_err());
    }

    #[test]
    fn files_are_read_as_go_reads_them() {
        let encoded = BASE64.encode("alice:secret-with-long-tail");
        let wrapped = format!("{}\n{}\r\n", &encoded[..20], &encoded[20..]);
        let alice = "alice:secret-with-long-tail";
        for (text, expected) in [
            (json!({"auths": {"a.example": {"auth": wrapped}}}).to_string(), alice),
            (json!({"Auths": {"a.example": {"Auth": encoded}}}).to_string(), alice),
            (json!({"auths": {"a.example": {"auth": BASE64.encode("alice:pass\0\0")}}}).to_string(), "alice:pass"),
            (json!({"AUTHS": {"a.example": {"UserName": "alice", "PASSWORD": "p"}}}).to_string(), "alice:p"),
            (format!("{{\"auths\": {{\"a.example\": {{\"auth\": \"eDp5\", \"auth\": \"{encoded}\"}}}}}}"), alice),
            (format!("{{\"auths\": {{\"a.example\": {{\"auth\": \"{encoded}\"}}}}}}\n}}"), alice),
            (json!({"auths": {"A.example": {"auth": encoded}}}).to_string(), "nobody"),
            (json!({"auths": null, "credsStore": null, "credHelpers": null}).to_string(), "nobody"),
            (json!({"auths": {"a.example": {"auth": null}}}).to_string(), "nobody"),
            (String::new(), "nobody"),
            (" \n".to_owned(), "nobody"),
        ] {
            assert_eq!(user_of(find_in(&text, "a.example", "x").unwrap()), expected, "{text}");
        }
        for text in ["[]", "{\"auths\": {\"a.example\": {\"auth\": \"*\"}}}", "x"] {
            assert!(find_in(text, "a.example", "x").is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_file_with_the_registry_wins() {
        let dir = tempfile::tempdir().unwrap();
        let files = ["none", "a", "b"].map(|name| dir.path().join(name));
        store_credentials(&files[1], "one.example", "a", &"1".into()).unwrap();
        store_credentials(&files[2], "one.example", "b", &"2".into()).unwrap();
        store_credentials(&files[2], "two.example", "b", &"3".into()).unwrap();
        assert_eq!(user_of(find(&files, "one.example", "x").unwrap()), "a:1");
        assert_eq!(user_of(find(&files, "two.example", "x").unwrap()), "b:3");
    }

    #[test]
    fn storing_and_removing_leave_other_entries_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, r#"{"HttpHeaders": {"a": "b"}, "auths": {"x.example": {"auth": "eDp5"}}}"#).unwrap();
        store_credentials(&file, "docker.io", "me", &"secret".into()).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("HttpHeaders") && text.contains(DOCKER_HUB), "{text}");
        assert!(remove_credentials(&file, "docker.io").unwrap());
        assert!(!remove_credentials(&file, "docker.io").unwrap());
        let files = [file];
        assert_eq!(user_of(find(&files, "x.example", "r").unwrap()), "x:y");
        assert_eq!(user_of(find(&files, "docker.io", "r").unwrap()), "nobody");
    }
}
