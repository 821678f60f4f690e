//! The variables of a build: arguments, environment, and those that are always there.

use std::collections::BTreeMap;

use oci_spec::image::Platform;

use super::options::Options;
use crate::image::{host_platform, platform_string};
use crate::kubefile::{Arg, Kubefile, expand};

/// What commands that know of reproducible builds look at (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Which variables have which values at one point of a Kubefile.
#[derive(Debug, Clone)]
pub struct Variables {
    given: BTreeMap<String, String>,
    predefined: BTreeMap<String, String>,
    /// Arguments before the first FROM; a stage sees them when it declares them again.
    global: BTreeMap<String, String>,
    args: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Variables {
    /// A scope for the arguments before the first FROM.
    pub fn new(given: &BTreeMap<String, String>, platform: &Platform) -> Self {
        Variables {
            given: given.clone(),
            predefined: predefined(platform),
            global: BTreeMap::new(),
            args: BTreeMap::new(),
            env: BTreeMap::new(),
        }
    }

    /// A scope with the arguments before a Kubefile's first FROM.
    pub fn global(kubefile: &Kubefile, options: &Options) -> Self {
        let mut scope = Variables::new(&options.build_args, &options.platform);
        let epoch = options.source_date_epoch.map(|epoch| (SOURCE_DATE_EPOCH.to_owned(), epoch.to_string()));
        scope.predefined.extend(epoch);
        for Arg { name, default } in kubefile.args.iter().map(|arg| &arg.value) {
            let default = default.as_ref().and_then(|word| expand(&word.value, kubefile.escape, |name| scope.get(name)).ok());
            scope.declare(&name.value, default.map(|word| word.text));
        }
        scope
    }

    /// Goes on in a stage whose base has this environment.
    pub fn enter_stage(&mut self, env: BTreeMap<String, String>) {
        self.global = std::mem::take(&mut self.args);
        let proxies = self.given.iter().filter(|(name, _)| is_proxy(name));
        self.args = proxies.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.env = env;
    }

    /// Declares an argument: what the user gave counts over the default, the default over what stands before FROM.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        let value = self.given.get(name).cloned().or(default).or_else(|| self.global.get(name).cloned());
        if let Some(value) = value.or_else(|| self.predefined.get(name).cloned()) {
            self.args.insert(name.to_owned(), value);
        }
    }

    /// Sets an environment variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// A variable's value: the environment counts over arguments.
    pub fn get(&self, name: &str) -> Option<String> {
        self.env.get(name).or_else(|| self.args.get(name)).or_else(|| self.predefined.get(name)).cloned()
    }

    /// The environment alone.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// What a command sees: arguments, and the environment over them.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let mut variables = self.args.clone();
        variables.extend(self.env.clone());
        variables
    }
}

/// Whether a build argument needs no ARG, as in docker.
pub fn is_predefined(name: &str) -> bool {
    name == SOURCE_DATE_EPOCH || is_proxy(name)
}

/// Whether commands reach the network through it.
fn is_proxy(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"].contains(&name.as_str())
}

fn predefined(target: &Platform) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([("ARCH".to_owned(), target.architecture().to_string())]);
    for (prefix, platform) in [("TARGET", target), ("BUILD", &host_platform())] {
        let variant = platform.variant().clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform_string(platform)),
            ("OS", platform.os().to_string()),
            ("ARCH", platform.architecture().to_string()),
            ("VARIANT", variant),
        ] {
            variables.insert(format!("{prefix}{name}"), value);
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::parse_platform;

    #[test]
    fn arguments_and_environment_count_as_in_docker() {
        let given = BTreeMap::from([("A".to_owned(), "given".to_owned()), ("HTTP_PROXY".to_owned(), "http://p".to_owned())]);
        let mut scope = Variables::new(&given, &parse_platform("linux/arm64").unwrap());
        scope.declare("VERSION", Some("1".to_owned()));
        scope.enter_stage(BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]));
        assert_eq!(scope.variables()["HTTP_PROXY"], "http://p", "without an ARG");
        assert_eq!(scope.get("VERSION"), None, "not before it is declared again");
        scope.declare("VERSION", None);
        scope.declare("A", Some("default".to_owned()));
        scope.declare("B", None);
        assert_eq!((scope.get("VERSION").as_deref(), scope.get("A").as_deref(), scope.get("B")), (Some("1"), Some("given"), None));
        scope.set("A", "env");
        assert_eq!(scope.variables()["A"], "env");
        assert_eq!((scope.get("ARCH").as_deref(), scope.get("TARGETPLATFORM").as_deref()), (Some("arm64"), Some("linux/arm64")));
    }
}
