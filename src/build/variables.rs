//! The variables of a Kubefile: ARG, ENV, and the predefined ones (docker's rules).

use std::collections::BTreeMap;

use oci_spec::image::Platform;

use super::options::Options;
use crate::image::{host_platform, platform_string};
use crate::kubefile::{Arg, Kubefile, expand};

/// The variable that reproducible builds take the date from (<https://reproducible-builds.org/specs/source-date-epoch/>).
pub const SOURCE_DATE_EPOCH: &str = "SOURCE_DATE_EPOCH";

/// The values of variables at one point of a Kubefile.
#[derive(Debug, Clone)]
pub struct Variables {
    /// `--build-arg`.
    build_args: BTreeMap<String, String>,
    predefined: BTreeMap<String, String>,
    /// The ARGs before the first FROM: a stage sees those that it declares again.
    global: BTreeMap<String, String>,
    args: BTreeMap<String, String>,
    env: BTreeMap<String, String>,
}

impl Variables {
    /// The variables before the first FROM, without its ARGs.
    pub fn new(build_args: &BTreeMap<String, String>, platform: &Platform) -> Self {
        Variables {
            build_args: build_args.clone(),
            predefined: predefined(platform),
            global: BTreeMap::new(),
            args: BTreeMap::new(),
            env: BTreeMap::new(),
        }
    }

    /// The variables after the ARGs before the first FROM.
    pub fn global(kubefile: &Kubefile, options: &Options) -> Self {
        let mut variables = Variables::new(&options.build_args, &options.platform);
        let epoch = options.source_date_epoch.map(|epoch| (SOURCE_DATE_EPOCH.to_owned(), epoch.to_string()));
        variables.predefined.extend(epoch);
        for Arg { name, default } in kubefile.args.iter().map(|arg| &arg.value) {
            let default = default.as_ref().and_then(|word| expand(&word.value, kubefile.escape, |name| variables.get(name)).ok());
            variables.declare(&name.value, default.map(|word| word.text));
        }
        variables
    }

    /// Starts a stage whose base has this environment.
    pub fn enter_stage(&mut self, env: BTreeMap<String, String>) {
        self.global = std::mem::take(&mut self.args);
        let proxies = self.build_args.iter().filter(|(name, _)| is_proxy(name));
        self.args = proxies.map(|(name, value)| (name.clone(), value.clone())).collect();
        self.env = env;
    }

    /// Declares an ARG. `--build-arg` overrides the default, and the default overrides the ARG before the first FROM.
    pub fn declare(&mut self, name: &str, default: Option<String>) {
        let value = self.build_args.get(name).cloned().or(default).or_else(|| self.global.get(name).cloned());
        if let Some(value) = value.or_else(|| self.predefined.get(name).cloned()) {
            self.args.insert(name.to_owned(), value);
        }
    }

    /// Sets a variable of ENV.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.insert(name.to_owned(), value.to_owned());
    }

    /// A variable's value: ENV overrides ARG.
    pub fn get(&self, name: &str) -> Option<String> {
        self.env.get(name).or_else(|| self.args.get(name)).or_else(|| self.predefined.get(name)).cloned()
    }

    /// The variables of ENV alone.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// The environment of RUN: ARG, overridden by ENV.
    pub fn for_commands(&self) -> BTreeMap<String, String> {
        let mut variables = self.args.clone();
        variables.extend(self.env.clone());
        variables
    }
}

/// Whether `--build-arg` may set it without an ARG, as in docker.
pub fn is_predefined(name: &str) -> bool {
    name == SOURCE_DATE_EPOCH || is_proxy(name)
}

/// Whether it configures a proxy.
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
    fn arg_and_env_override_each_other_as_in_docker() {
        let build_args = BTreeMap::from([("A".to_owned(), "build-arg".to_owned()), ("HTTP_PROXY".to_owned(), "http://p".to_owned())]);
        let mut variables = Variables::new(&build_args, &parse_platform("linux/arm64").unwrap());
        variables.declare("VERSION", Some("1".to_owned()));
        variables.enter_stage(BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]));
        assert_eq!(variables.for_commands()["HTTP_PROXY"], "http://p", "without an ARG");
        assert_eq!(variables.get("VERSION"), None, "until the stage declares it again");
        variables.declare("VERSION", None);
        variables.declare("A", Some("default".to_owned()));
        variables.declare("B", None);
        assert_eq!(
            (variables.get("VERSION").as_deref(), variables.get("A").as_deref(), variables.get("B")),
            (Some("1"), Some("build-arg"), None)
        );
        variables.set("A", "env");
        assert_eq!(variables.for_commands()["A"], "env");
        assert_eq!((variables.get("ARCH").as_deref(), variables.get("TARGETPLATFORM").as_deref()), (Some("arm64"), Some("linux/arm64")));
    }
}
