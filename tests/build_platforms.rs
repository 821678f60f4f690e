//! One image for several platforms, and one image of several images.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::namespace::UserNamespace;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};

fn context(sealift: &Sealift, name: &str, kubefile: &str, files: &[(&str, &str)]) -> PathBuf {
    let context = sealift.home().join(name);
    for (path, content) in files {
        let place = context.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Kubefile"), kubefile).unwrap();
    context
}

fn build(sealift: &Sealift, tag: &str, context: &Path, more: &[&str]) -> String {
    sealift.ok(&[&["build", "-t", tag, context.to_str().unwrap()], more].concat()).trim().to_owned()
}

#[test]
fn an_image_for_two_platforms_has_the_files_of_each_and_travels_whole() {
    let (sealift, registry) = (Sealift::new(), DockerRegistry::start());
    let kubefile = "FROM scratch\nCOPY bin/${ARCH}/ bin/\nRUN [\"sh\", \"-c\", \"echo made > made\"]\n";
    let context = context(&sealift, "tool", kubefile, &[("bin/amd64/tool", "for amd64"), ("bin/arm64/tool", "for arm64")]);
    let name = registry.name("tools:1");
    let both = ["--platform", "linux/amd64,linux/arm64"];
    let digest = build(&sealift, &name, &context, &both);
    assert_eq!(build(&sealift, &name, &context, &both), digest, "the same again is the same");
    sealift.ok(&["push", "--plain-http", &name]);
    for (arch, text) in [("amd64", "for amd64"), ("arm64", "for arm64")] {
        let source = format!("docker://{name}");
        let config = run("skopeo", &["inspect", "--tls-verify=false", "--override-arch", arch, "--config", &source]);
        assert!(
            config.contains(&format!("\"architecture\":\"{arch}\"")) || config.contains(&format!("\"architecture\": \"{arch}\"")),
            "{config}"
        );
        let other = Sealift::new();
        other.ok(&["pull", "--plain-http", "--platform", &format!("linux/{arch}"), &name]);
        let place = other.home().join("root");
        other.ok(&["unpack", &name, "--platform", &format!("linux/{arch}"), place.to_str().unwrap()]);
        assert_eq!((fs::read_to_string(place.join("bin/tool")).unwrap().as_str(), place.join("made").exists()), (text, true));
    }
    let (archive, third) = (sealift.home().join("a.tar"), Sealift::new());
    sealift.ok(&["save", "-o", archive.to_str().unwrap(), &name]);
    third.ok(&["load", "-i", archive.to_str().unwrap()]);
    let parts = third.json(&["inspect", &name])["parts"].as_array().unwrap().clone();
    assert_eq!(parts.iter().map(|part| part["platform"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), ["linux/amd64", "linux/arm64"]);
}

#[test]
fn a_run_inside_a_foreign_root_says_what_is_missing() {
    let sealift = Sealift::new();
    let context = context(&sealift, "own", "FROM scratch\nCOPY . /\nRUN true\n", &[("bin/sh", "not for this machine")]);
    fs::set_permissions(context.join("bin/sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = sealift.fails(1, &["build", "-t", "own:1", "--platform", "linux/s390x", context.to_str().unwrap()]);
    assert_says(&said, &["cannot run programs for linux/s390x", "qemu-user-static", "hint: "]);
    assert_eq!(sealift.ok(&["images", "-q"]), "");
}

#[test]
fn merged_images_have_the_files_apps_and_launch_lists_of_all() {
    let sealift = Sealift::new();
    let yaml = |name: &str| format!("kind: ConfigMap\napiVersion: v1\nmetadata: {{name: {name}}}\n");
    let base = context(&sealift, "base", "FROM scratch\nCOPY etc etc\n", &[("etc/base", "base"), ("etc/same", "of the base")]);
    build(&sealift, "base:1", &base, &[]);
    for app in ["web", "db"] {
        let kubefile =
            format!("FROM base:1\nCOPY files/ etc/\nAPP {app} local://app.yaml\nENV {}=1\nLAUNCH [\"{app}\"]\n", app.to_uppercase());
        let files = [("app.yaml", yaml(app)), ("files/same", format!("of {app}"))];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        build(&sealift, &format!("{app}:1"), &context(&sealift, app, &kubefile, &files), &[]);
    }
    let digest = sealift.ok(&["merge", "-t", "shop:1", "web:1", "db:1"]);
    assert_eq!(sealift.ok(&["merge", "-t", "shop:1", "web:1", "db:1"]), digest, "the same again is the same");
    let part = sealift.json(&["inspect", "shop:1"])["parts"][0].clone();
    let apps: Vec<&str> = part["cluster"]["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(apps, ["web", "db"]);
    assert_eq!(part["cluster"]["launch"]["apps"], serde_json::json!(["web", "db"]));
    assert_eq!((part["cluster"]["env"]["WEB"].as_str(), part["cluster"]["env"]["DB"].as_str()), (Some("1"), Some("1")));
    let root = sealift.home().join("root");
    sealift.ok(&["unpack", "shop:1", root.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(root.join("etc/same")).unwrap(), "of db");
    assert!(root.join("etc/base").exists() && root.join("application/apps/web/app.yaml").exists());
    // what they share is there once, and history tells of each layer
    let history = sealift.json(&["history", "shop:1"]);
    let layers = history.as_array().unwrap().iter().filter(|step| step["layer"].is_string()).count();
    assert_eq!(layers, part["layers"].as_array().unwrap().len());
    assert!(history.as_array().unwrap().iter().all(|step| step["createdBy"].is_string()), "{history}");
    run("skopeo", &["inspect", "--config", &format!("oci:{}:docker.io/library/shop:1", sealift.store_root().display())]);
}

#[test]
fn images_that_do_not_go_together_are_refused() {
    let sealift = Sealift::new();
    let plain = context(&sealift, "plain", "FROM scratch\nCOPY f f\n", &[("f", "x")]);
    build(&sealift, "one:1", &plain, &["--label", "cluster.alpha.sealer.io/cluster-runtime-version=v1.20.2"]);
    build(&sealift, "other:1", &plain, &["--label", "cluster.alpha.sealer.io/cluster-runtime-version=v1.21.0"]);
    build(&sealift, "arm:1", &plain, &["--platform", "linux/arm64"]);
    assert_says(&sealift.fails(2, &["merge", "-t", "x:1", "one:1", "other:1"]), &["other:1 contains another cluster", "v1.21.0", "hint: "]);
    assert_says(&sealift.fails(2, &["merge", "-t", "x:1", "one:1", "arm:1"]), &["no platform in common", "arm:1 is built for linux/arm64"]);
    build(&sealift, "both:1", &plain, &["--platform", "linux/amd64,linux/arm64"]);
    let merged = sealift.run(&["merge", "-t", "x:1", "arm:1", "both:1"]).expect_code(0);
    assert_says(&merged.stderr, &["warning: not merged for linux/amd64: arm:1 is built for linux/arm64"]);
    assert_says(&sealift.fails(1, &["merge", "-t", "x:1", "one:1", "nowhere:1"]), &["no such image: nowhere:1"]);
    assert_says(&sealift.fails(2, &["merge", "-t", "x:1", "one:1"]), &["2 values required"]);
}

/// A program for arm64, static, that writes `arm64` into the file `/made` and is a shell for nothing else.
fn arm64_shell() -> Vec<u8> {
    const CODE: [u32; 12] = [
        0xd280_0708, // mov x8, #56: openat
        0x9280_0c60, // mov x0, #-100: AT_FDCWD
        0x1000_0161, // adr x1, path
        0xd280_0822, // mov x2, #65: O_WRONLY|O_CREAT
        0xd280_3483, // mov x3, #0644
        0xd400_0001, // svc #0
        0xd280_0808, // mov x8, #64: write
        0x1000_0101, // adr x1, text
        0xd280_00c2, // mov x2, #6
        0xd400_0001, // svc #0
        0xd280_0ba8, // mov x8, #93: exit
        0xd280_0000, // mov x0, #0
    ];
    let code: Vec<u8> = CODE.into_iter().chain([0xd400_0001]).flat_map(u32::to_le_bytes).chain(*b"/made\0\0\0arm64\n\0\0").collect();
    let (header, program, address) = (64_u64, 56_u64, 0x40_0000_u64);
    let size = header + program + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // executable, aarch64, version, entry, program headers, no sections, flags, sizes
    elf.extend([2_u16, 183].into_iter().flat_map(u16::to_le_bytes).chain(1_u32.to_le_bytes()));
    elf.extend([address + header + program, header, 0].into_iter().flat_map(u64::to_le_bytes).chain(0_u32.to_le_bytes()));
    elf.extend([64_u16, 56, 1, 64, 0, 0].into_iter().flat_map(u16::to_le_bytes));
    // one segment: loadable, readable and executable
    elf.extend([1_u32, 5].into_iter().flat_map(u32::to_le_bytes));
    elf.extend([0, address, address, size, size, 0x1_0000].into_iter().flat_map(u64::to_le_bytes));
    [elf, code].concat()
}

/// The kernel's version, as scripts/test.sh looks at it too.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap_or(0))
}

#[test]
fn a_run_inside_a_foreign_root_works_with_an_emulator() {
    if kernel() < (6, 7) {
        eprintln!("skipped: before Linux 6.7 a user namespace has no binfmt_misc of its own");
        return;
    }
    let sealift = Sealift::new();
    let context = context(&sealift, "own", "FROM scratch\nCOPY . /\nRUN make it\n", &[("lib/x", "x")]);
    fs::create_dir_all(context.join("bin")).unwrap();
    fs::write(context.join("bin/sh"), arm64_shell()).unwrap();
    fs::set_permissions(context.join("bin/sh"), fs::Permissions::from_mode(0o755)).unwrap();
    // a user namespace has a binfmt_misc of its own: the machine's is left alone
    let script = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; \
        grep ^:qemu-aarch64: /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register; \
        exec \"$0\" build -t own:1 --platform linux/arm64 \"$1\"";
    let namespace = UserNamespace::new();
    let inside = sealift.command(&[]);
    let enter = namespace.enter(&["unshare", "--mount"]);
    let mut command = Command::new(&enter[0]);
    command.env_clear().envs(inside.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
    let output = command.args(&enter[1..]).arg(script).arg(inside.get_program()).arg(&context).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let root = sealift.home().join("root");
    sealift.ok(&["unpack", "own:1", "--platform", "linux/arm64", root.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(root.join("made")).unwrap(), "arm64\n");
}
