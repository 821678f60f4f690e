//! What the first master shall have of an application.

use std::path::PathBuf;

use crate::cluster::Desired;
use crate::clusterfile::Env;
use crate::image::{App, AppKind, Role};
use crate::resource::{Command, KubeApp, Resource, is_manifest};

/// The root file system in use on a host.
const ROOTFS: &str = "/var/lib/sealift/rootfs/current";
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// How long the workloads of an application may take, in seconds.
const PATIENCE: u64 = 300;

/// What is launched, in order: the storage plugin, then what the Clusterfile names, else what the image does. The network
/// plugin is there before.
pub fn launch(desired: &Desired) -> Vec<Resource> {
    let storage = desired.config().apps.iter().filter(|app| app.role == Some(Role::Csi));
    let mut all: Vec<Resource> = storage.flat_map(|app| resources(desired, app)).collect();
    match launched(desired) {
        Launched::Commands(lines) => {
            let env = environment(desired, None);
            all.extend(lines.iter().map(|line| command(desired, "launch", ROOTFS.into(), line, &env)));
        }
        Launched::Apps(names) => {
            let apps = names.iter().filter_map(|name| desired.config().app(name)).filter(|app| app.role.is_none());
            all.extend(apps.flat_map(|app| resources(desired, app)));
        }
    }
    all
}

/// What of this cluster's applications is not carried out yet, or not known.
pub fn unsupported(desired: &Desired) -> Vec<String> {
    let config = desired.config();
    let mut wrong = Vec::new();
    if let Launched::Apps(names) = launched(desired) {
        let known: Vec<&str> = config.apps.iter().map(|app| app.name.as_str()).collect();
        let unknown = names.iter().filter(|name| config.app(name).is_none());
        wrong.extend(unknown.map(|name| format!("app name `{name}` is not found in [{}]", known.join(" "))));
        let roles = config.apps.iter().filter(|app| app.role.is_some());
        for app in names.iter().filter_map(|name| config.app(name)).chain(roles) {
            if commands(desired, app).is_empty() && matches!(app.kind, AppKind::Helm | AppKind::Kustomize | AppKind::Unknown) {
                wrong.push(format!("app `{}`: launching a {} application is not carried out yet", app.name, kind(app.kind)));
            }
        }
    }
    wrong
}

/// What the first master shall have of one application.
pub fn resources(desired: &Desired, app: &App) -> Vec<Resource> {
    let directory = PathBuf::from(ROOTFS).join(app.root());
    let env = environment(desired, Some(app));
    let name = format!("app {}", app.name);
    let run = |line: &String| command(desired, &name, directory.clone(), line, &env);
    let commands = commands(desired, app);
    if !commands.is_empty() {
        return commands.iter().map(run).collect();
    }
    let files = files(desired, app);
    match app.kind {
        AppKind::Shell => files.iter().map(|file| run(&format!("bash {}", quoted(file)))).collect(),
        _ => vec![Resource::KubeApp(KubeApp {
            name: app.name.clone(),
            directory: directory.clone(),
            files: files.into_iter().map(PathBuf::from).filter(|file| is_manifest(file)).collect(),
            patience: PATIENCE,
            wait: true,
        })],
    }
}

enum Launched {
    Commands(Vec<String>),
    Apps(Vec<String>),
}

/// The Clusterfile's commands, else its applications, else the image's commands, else its applications.
fn launched(desired: &Desired) -> Launched {
    let (said, image) = (&desired.clusterfile.application, &desired.config().launch);
    match (&said.cmds, &said.launch_apps) {
        (Some(lines), _) => Launched::Commands(lines.clone()),
        (None, Some(apps)) => Launched::Apps(apps.clone()),
        (None, None) if !image.cmds.is_empty() => Launched::Commands(image.cmds.clone()),
        (None, None) => Launched::Apps(image.apps.clone()),
    }
}

/// The launch commands of an application, those of the Clusterfile before those of the image.
fn commands(desired: &Desired, app: &App) -> Vec<String> {
    let config = desired.clusterfile.application.config(&app.name);
    config.and_then(|config| config.cmds.clone()).unwrap_or_else(|| app.cmds.clone())
}

/// What is launched of an application: what the image says, else every file of its kind in its folder.
fn files(desired: &Desired, app: &App) -> Vec<String> {
    if !app.files.is_empty() {
        return app.files.clone();
    }
    let part = desired.part(desired.first_master());
    let below = part.files.keys().filter_map(|path| path.strip_prefix(app.root()).ok());
    let of_kind = below.filter(|file| match app.kind {
        AppKind::Shell => file.extension().is_some_and(|extension| extension == "sh"),
        _ => is_manifest(file),
    });
    of_kind.map(|file| file.display().to_string()).collect()
}

/// The environment: the host's, the application's of the image over it, the Clusterfile's over both.
fn environment(desired: &Desired, app: Option<&App>) -> Env {
    let mut env = desired.first_master().env.clone();
    if desired.is_kubernetes() {
        env.insert("KUBECONFIG".to_owned(), ADMIN.to_owned());
    }
    if let Some(app) = app {
        env.extend(app.env.clone());
        env.extend(desired.clusterfile.application.config(&app.name).map(|config| config.env.clone()).unwrap_or_default());
    }
    env
}

fn command(desired: &Desired, name: &str, directory: PathBuf, line: &str, env: &Env) -> Resource {
    let image = desired.part(desired.first_master()).rootfs.digest;
    Resource::Command(Command { name: name.to_owned(), directory, line: line.to_owned(), env: env.clone(), image })
}

fn kind(kind: AppKind) -> &'static str {
    match kind {
        AppKind::Kube => "kube",
        AppKind::Helm => "helm",
        AppKind::Shell => "shell",
        AppKind::Kustomize => "kustomize",
        AppKind::Unknown => "unknown",
    }
}

/// A word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
