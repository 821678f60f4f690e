use std::collections::BTreeMap;

use super::super::scratch_dir::ScratchDir;
use super::super::test_support::options;
use super::*;
use crate::image::{AppKind, ClusterKind, Role};
use crate::kubefile::parse;

fn planned(text: &str, files: &[&str]) -> (Plan, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    let mut options = options(dir.path(), text);
    options.build_args = BTreeMap::from([("VERSION".to_owned(), "2".to_owned())]);
    let parsed = parse("Kubefile", text);
    let context = BuildContext::open(dir.path(), None).unwrap();
    let (sources, source_diagnostics) = StageSources::find(&parsed.kubefile, &options);
    let base_images = sources
        .images()
        .map(|image| (image.clone(), BaseImage { is_cluster: image.name.repository().ends_with("base"), ..BaseImage::default() }))
        .collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let scratch = ScratchDir::new(&crate::store::Store::open(elsewhere.path()).unwrap());
    let (plan, mut diagnostics) = plan(
        &parsed.kubefile,
        Inputs {
            sources: &sources,
            base_images: &base_images,
            context: &context,
            options: &options,
            downloaded: &Downloaded::new(),
            scratch: &scratch,
        },
    );
    diagnostics.splice(0..0, parsed.diagnostics.into_iter().chain(source_diagnostics));
    let errors = diagnostics.iter().filter(|found| found.is_error()).map(|error| error.message.clone()).collect();
    (plan, errors)
}

#[test]
fn metadata_of_a_kubefile_is_in_the_cluster_config() {
    let text = r#"FROM scratch
ARG VERSION=1
ENV A=1
ENV B=${A}-$VERSION A=2
LABEL cluster.alpha.sealer.io/cluster-runtime-version=v1.20.2 "x y"="a b"
KUBEVERSION ">=1.19"
CNI net local://net.yaml
APP web local://web
APPENV web P=$B
APPCMDS web ["kubectl", "apply", "-f", "."]
IMAGES nginx:$VERSION
LAUNCH ["net", "web"]
"#;
    let (plan, errors) = planned(text, &["net.yaml", "web/a.sh"]);
    assert_eq!(errors, Vec::<String>::new());
    let cluster = &plan.image().cluster;
    assert_eq!(cluster.kind, ClusterKind::KubeInstaller);
    assert_eq!(cluster.env, BTreeMap::from([("A".to_owned(), "2".to_owned()), ("B".to_owned(), "1-2".to_owned())]));
    assert_eq!((cluster.kube_version.as_deref(), cluster.runtime_version.as_deref()), (Some(">=1.19"), Some("v1.20.2")));
    assert_eq!(cluster.labels["cluster.alpha.sealer.io/kube-cni-net"], "true");
    assert_eq!(cluster.labels["x y"], "a b");
    let apps: Vec<_> = cluster.apps.iter().map(|app| (app.name.as_str(), app.kind, app.role)).collect();
    assert_eq!(apps, [("net", AppKind::Kube, Some(Role::Cni)), ("web", AppKind::Shell, None)]);
    assert_eq!((cluster.apps[1].env["P"].as_str(), cluster.apps[1].cmds.len()), ("1-2", 4));
    assert_eq!(cluster.launch.apps, ["net", "web"]);
    assert_eq!(plan.image().images.images[0].image.familiar(), "nginx:2");
}

#[test]
fn all_errors_are_reported_at_once() {
    let text = "FROM scratch\nCOPY none .\nCOPY ../x .\nLANUCH [\"a\"]\nAPP web local://gone\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 a .\nCOPY a b c\n";
    let (_, errors) = planned(text, &["a", "b"]);
    assert_eq!(errors.len(), 6, "{errors:#?}");
    for (error, part) in
        errors.iter().zip(["LANUCH", "`none` is not in the context", "`../x` is outside", "`gone`", "needs a URL", "directory"])
    {
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn missing_downloads_are_listed_with_their_line() {
    let text = "FROM scratch\nAPP a https://example.com/a.yaml local://a\nAPP b oci://example.com/charts/b:1\nADD http://example.com/x .\n";
    let (plan, errors) = planned(text, &["a"]);
    let missing: Vec<_> = plan.missing.iter().map(|missing| (missing.line, missing.remote.url.as_str())).collect();
    assert_eq!(missing, [(2, "https://example.com/a.yaml"), (3, "oci://example.com/charts/b:1"), (4, "http://example.com/x")]);
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn heredocs_make_scripts_and_files() {
    let text = "FROM scratch\nRUN <<EOF\necho one\necho two\nEOF\nRUN cat <<A && true\nx\nA\nCOPY <<conf etc/\nv=${V:-1}\nconf\n";
    let (plan, errors) = planned(text, &[]);
    assert_eq!(errors, Vec::<String>::new());
    let argv = |number: usize| match &plan.image().instructions[number].operation {
        Operation::Run(command) => command.argv.last().unwrap().clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((argv(0), argv(1)), ("echo one\necho two\n".to_owned(), "cat <<A && true\nx\nA".to_owned()));
    let Operation::Copy(copy) = &plan.image().instructions[2].operation else { panic!("a copy") };
    let CopySource::Item(item) = &copy.sources[0] else { panic!("an item") };
    assert_eq!(item.tree.values().next().unwrap().source, crate::layer::Source::Bytes(b"v=1\n".to_vec()));
}

#[test]
fn stages_inherit_env_and_apps_but_not_launch() {
    let text = r#"ARG V=1
FROM base AS one
ENV A=1
APP web local://a.sh
IMAGES one:1
LAUNCH ["web"]
FROM one AS two
ARG V
ENV B=$A-$V-$C
FROM quay.io/a/tools AS unused
COPY none none
FROM TWO
COPY --from=one a b
COPY --from=quay.io/a/tools:2 --exclude=*.md usr/bin/* bin/
"#;
    let (plan, errors) = planned(text, &["a.sh"]);
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(plan.stages.iter().map(|stage| stage.number).collect::<Vec<_>>(), [0, 1, 3]);
    let image = plan.image();
    assert_eq!(image.env, BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".to_owned(), "1-1-".to_owned())]));
    assert_eq!((image.cluster.apps.len(), image.cluster.launch.apps.len(), image.images.images.len()), (1, 0, 1));
    let Operation::Copy(copy) = &image.instructions[1].operation else { panic!("a copy") };
    assert!(matches!(&copy.sources[0], CopySource::From(selection) if selection.paths == ["usr/bin/*"]));
}

#[test]
fn the_base_of_an_image_is_a_cluster_image_of_its_platform() {
    for (text, part) in [
        ("FROM quay.io/a/tools\n", Some("not a cluster image")),
        ("FROM quay.io/a/tools AS a\nFROM a\n", Some("not a cluster image")),
        ("FROM --platform=linux/s390x base\n", Some("its base is for linux/s390x")),
        ("FROM --platform=linux/s390x base AS a\nFROM base\nCOPY --from=a b c\n", None),
        ("FROM quay.io/a/tools AS a\nFROM scratch\nCOPY --from=a b c\n", None),
    ] {
        let (_, errors) = planned(text, &[]);
        assert!(
            errors.len() == usize::from(part.is_some()) && errors.iter().all(|error| error.contains(part.unwrap())),
            "{text}: {errors:?}"
        );
    }
}
