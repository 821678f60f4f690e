//! Whatever is read from outside is an answer or an error, never a panic: seeds are changed at random and read, for a bounded time.
//!
//! `scripts/fuzz.sh` runs this for longer: `SEALIFT_FUZZ_SECONDS` says how long each target is tried, `SEALIFT_FUZZ_SEED` where chance begins.
//! What made a target panic is kept in `target/fuzz/`; put into `testdata/fuzz/TARGET/`, it is tried first from then on.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and tells how much it tried")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::images::{cluster_image, gzip, tar_layer};
use sealift::archive::{Delta, Inventory, LoadOptions, PartList, load, select};
use sealift::events::Context;
use sealift::image::{ClusterConfig, ClusterImage, Content, Digest, Reference, children, content_of};
use sealift::layer::{Compression, UnpackOptions, check_members, unpack};
use sealift::store::Store;

/// Numbers that look random and are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }
}

/// Inputs never grow beyond this many bytes.
const LONGEST: usize = 64 << 10;

/// Changes a seed in one to eight places.
fn change(seeds: &[Vec<u8>], words: &[&str], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = chance.pick(seeds).clone();
    for _ in 0..=chance.below(8) {
        let at = chance.below(bytes.len() + 1);
        let end = (at + chance.below(64)).min(bytes.len());
        match chance.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            3 => drop(bytes.splice(at..end, chance.pick(words).bytes())),
            4 => drop(bytes.splice(at..at, chance.pick(words).bytes())),
            5 => {
                let other = chance.pick(seeds);
                let from = chance.below(other.len() + 1);
                drop(bytes.splice(at..end, other[from..(from + 200).min(other.len())].to_vec()));
            }
            _ if at < bytes.len() => {
                let flipped = bytes[at] ^ 1 << chance.below(8);
                bytes[at] = *chance.pick(&[0, 0xff, b'\n', b'"', b'\\', b'0', b'9', flipped]);
            }
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Tries a target: first what once failed, then changed seeds; `least` of them, or as many as the time allows that is given.
fn fuzz(target: &str, mut seeds: Vec<Vec<u8>>, words: &[&str], least: usize, try_one: impl Fn(&[u8])) {
    let known = files(&Path::new("testdata/fuzz").join(target));
    known.iter().for_each(|bytes| attempt(target, bytes, &try_one));
    seeds.extend(known);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let mut chance = Chance(number("SEALIFT_FUZZ_SEED").unwrap_or(1) | 1);
    let until = number("SEALIFT_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut tried = 0;
    while until.map_or(tried < least, |until| Instant::now() < until) {
        attempt(target, &change(&seeds, words, &mut chance), &try_one);
        tried += 1;
    }
    eprintln!("{target}: {tried} inputs");
}

fn attempt(target: &str, bytes: &[u8], try_one: &impl Fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| try_one(bytes))).is_err() {
        let kept = PathBuf::from(format!("target/fuzz/{target}-{}", Digest::of(bytes).short()));
        std::fs::create_dir_all("target/fuzz").unwrap();
        std::fs::write(&kept, bytes).unwrap();
        panic!("{target}: the input is kept in {}", kept.display());
    }
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(listing) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = listing.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn cases(is_wanted: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir("testdata/cases").unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let wanted = paths.into_iter().filter(|path| is_wanted(&path.file_name().unwrap().to_string_lossy()));
    wanted.map(|path| std::fs::read(path).unwrap()).filter(|bytes| bytes.len() < 4096).collect()
}

#[test]
fn kubefiles() {
    let words = [
        "FROM ",
        "COPY --from=",
        "RUN <<EOF\n",
        "EOF\n",
        "ARG ",
        "${",
        "${a:-",
        "}",
        "\\\n",
        "# escape=`\n",
        "APP a local://",
        "[\"",
        "\"]",
        "--",
        "=",
        "\t",
        "\u{4e2d}",
        "\r\n",
        "<<-'X'\n",
        "LAUNCH ",
        "IMAGES ",
        "CNI ",
        "$",
    ];
    fuzz("kubefile", cases(|name| name.ends_with("Kubefile")), &words, 3000, |bytes| {
        let parsed = sealift::kubefile::parse("K", &String::from_utf8_lossy(bytes));
        if parsed.diagnostics.is_empty() {
            let printed = parsed.kubefile.to_string();
            assert_eq!(sealift::kubefile::parse("K", &printed).kubefile, parsed.kubefile, "printed as\n{printed}");
        }
    });
}

#[test]
fn clusterfiles() {
    let words =
        ["---\n", "- ", ": ", "{", "[", "&a ", "*a", "!!str ", "spec:\n", "hosts:\n", "10.0.0.1-10.255.255.255", "null", "\u{4e2d}", "  "];
    fuzz("clusterfile", cases(|name| name.ends_with(".yaml") || name.contains("lusterfile")), &words, 1500, |bytes| {
        sealift::clusterfile::load("C", &String::from_utf8_lossy(bytes)).ok();
    });
}

#[test]
fn documents_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    cluster_image(&store, "docker.io/library/shop:1", 1, &[1000], &["docker.io/library/nginx:1", "quay.io/a/b:2"]);
    let documents = store.blobs().unwrap().into_iter().filter(|blob| blob.size < 4096).map(|blob| store.read(&blob).unwrap());
    let inventory = serde_json::to_vec(&Inventory::create(&store).unwrap()).unwrap();
    let seeds: Vec<Vec<u8>> = documents.chain([inventory, br#"{"version":1,"bases":[],"inventory":true,"blobs":[]}"#.to_vec()]).collect();
    let words = [
        "\"mediaType\":",
        "\"layers\":[",
        "\"manifests\":[",
        "\"digest\":\"sha512:",
        "\"size\":-1",
        "\"size\":18446744073709551615",
        "null",
        "{}",
        "[",
        "1e400",
        "\\u0000",
        "\"platform\":{}",
        "\"annotations\":{\"io.sealift.cluster\":\"",
        "\"annotations\":{\"io.sealift.platform\":\"/\"}",
    ];
    let list = dir.path().join("x.parts");
    fuzz("manifest", seeds, &words, 4000, |bytes| {
        for media_type in ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json"] {
            let Ok(content) = content_of(&media_type.into(), bytes) else { continue };
            children(&content);
            match content {
                Content::Index(index) => drop(ClusterImage::from_index(&index)),
                Content::Manifest(manifest) => drop(ClusterConfig::from_manifest(&manifest)),
                Content::Leaf => {}
            }
        }
        Inventory::parse(bytes).ok();
        Delta::parse(bytes).ok();
        String::from_utf8_lossy(bytes).lines().take(2).for_each(|line| drop(line.parse::<Reference>()));
        if bytes.len() % 16 == 0 {
            std::fs::write(&list, bytes).unwrap();
            PartList::read(&list).ok();
        }
    });
}

#[test]
fn tars() {
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("path", b"a/long/name".as_slice()), ("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.5")]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    pax.append_data(&mut header, "d".repeat(90) + "/" + &"e".repeat(120), &b"xyz"[..]).unwrap();
    let seeds = vec![tar_layer(1, 700), pax.into_inner().unwrap()];
    let words =
        ["\0\0\0\0", "77777777777", "\u{80}", "30 path=../../x\n", "18 size=99999999\n", "ustar\0", "L", "x", "2", "1", ".wh.", "/", ".."];
    fuzz("tar", seeds.clone(), &words, 4000, |bytes| drop(check_members(bytes)));
    // through a decoder, to the disk
    let packed =
        seeds.iter().map(|tar| gzip(tar)).chain(seeds.iter().map(|tar| zstd::encode_all(&tar[..], 1).unwrap())).chain(seeds.clone());
    fuzz("layer", packed.collect::<Vec<_>>(), &words, 300, |bytes| {
        let dir = tempfile::tempdir().unwrap();
        let options = UnpackOptions { owners: false, max_bytes: 1 << 20 };
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            unpack(bytes, compression, &Digest::of(b""), &dir.path().join("root"), &options).ok();
        }
        assert!(std::fs::read_dir(dir.path()).unwrap().count() <= 1, "nothing is written beside the root");
    });
}

#[test]
fn archives() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let name: Reference = "docker.io/library/shop:1".parse().unwrap();
    cluster_image(&store, &name.to_string(), 1, &[300], &[]);
    let mut archive = Vec::new();
    select(&store, &[name]).unwrap().write(&store, &mut archive, &Context::silent()).unwrap();
    fuzz("archive", vec![archive], &["index.json", "blobs/sha256/", "\0", "oci-layout", "sealift-delta.json", "{}", "../"], 60, |bytes| {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        if load(&store, bytes, &LoadOptions::default(), &Context::silent()).is_err() {
            assert_eq!(store.refs().unwrap(), [], "what is refused gets no name");
        }
        assert_eq!(store.fsck(&Context::silent()).unwrap(), [], "nothing damaged comes in");
    });
}

/// The templates that Helm's answers are known for.
fn templates() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string("testdata/helm/templates.jsonl").unwrap();
    let cases = text.lines().skip(1).map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    cases.map(|case| case["template"].as_str().unwrap().as_bytes().to_vec()).collect()
}

/// Renders a chart whose files are these; the renderer runs in a thread of its own, which must not panic either.
fn render_chart(files: &[(&str, &[u8])]) {
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.to_vec())).collect();
    let rendered = sealift::chart::render(files, &serde_json::json!({"x": 1}), &sealift::chart::Release::default());
    assert!(!rendered.is_err_and(|message| message.contains("the template engine panicked")), "the renderer panicked");
}

const CHART: &[u8] = b"apiVersion: v2\nname: web\nversion: 1.0.0\n";

#[test]
fn templates_of_charts() {
    let words = [
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "{{ end }}",
        "{{ else }}",
        "{{ range until 9 }}",
        "{{ define \"t\" }}",
        "{{ include \"t\" . }}",
        "{{ template \"t\" . }}",
        "{{ tpl \"{{ . }}\" . }}",
        "{{ $x := ",
        " | toYaml | nindent 4",
        " | printf \"%*d\" 99999999",
        "(list 1 2)",
        "(dict \"a\" .)",
        ".Values",
        "9223372036854775807",
        "-9223372036854775808",
        "1e308",
        "0x",
        "\"%!\"",
        "`",
        "\\u00e9",
        "\u{4e2d}",
        "until 1000000",
        "repeat 1000000 ",
        "substr -1 99 ",
        "slice ",
        "regexReplaceAll \"(\" ",
        "semverCompare \">\" ",
        "toDate \"2006\" ",
        "dateModify ",
        "index . ",
        "dig ",
        "merge . ",
    ];
    let values = b"list: [a, b]\nmap: {a: {b: 1}}\nname: x\nn: 3\n";
    fuzz("template", templates(), &words, 1500, |bytes| {
        render_chart(&[("Chart.yaml", CHART), ("values.yaml", values), ("templates/a.yaml", bytes)]);
    });
}

#[test]
fn values_and_metadata_of_charts() {
    let words = [
        "---\n",
        "- ",
        ": ",
        "{",
        "[",
        "&a ",
        "*a",
        "<<: *a",
        "!!binary ",
        "!!float ",
        "1e999",
        "0x",
        "null: ",
        "|2-\n",
        "~",
        "\u{feff}",
        "\t",
    ];
    let seeds = [
        &b"a: &x {b: [1, 2.5, yes, ~, 0o17]}\nc: *x\nglobal: {d: |\n  text\n}\n"[..],
        b"apiVersion: v2\nname: web\nversion: 1.0.0\ntype: application\nkubeVersion: \">=1.19.0-0\"\ndependencies:\n- {name: s, version: 1.x, alias: t, condition: t.on, tags: [u], import-values: [v, {child: w, parent: .}]}\n",
        br##"{"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a": {"type": "integer", "$ref": "#/definitions/b"}}, "definitions": {"b": {"pattern": "("}}}"##,
        b"*.bak\n!x\n/a/\n[a-z]?\n\\{\n",
    ];
    let seeds: Vec<Vec<u8>> = seeds.into_iter().map(<[u8]>::to_vec).collect();
    let template = b"{{ toYaml . }}\n{{ toJson .Values }}{{ toToml .Values }}{{ .Values }}";
    fuzz("chart", seeds, &words, 1500, |bytes| {
        render_chart(&[("Chart.yaml", CHART), ("values.yaml", bytes), ("values.schema.json", bytes), ("templates/a.txt", template)]);
        render_chart(&[("Chart.yaml", bytes), ("charts/s/Chart.yaml", b"name: s\nversion: 1.0.0\n"), ("templates/a.txt", template)]);
        let mut files = [(".helmignore".to_owned(), bytes.to_vec()), ("a/b".to_owned(), Vec::new())].into_iter().collect();
        sealift::chart::apply_helmignore(&mut files).ok();
        sealift::chart::load_archive(bytes).ok();
        sealift::chart::values::from_yaml(&String::from_utf8_lossy(bytes)).ok();
        let mut given = serde_json::json!({});
        sealift::chart::values::set(&mut given, &String::from_utf8_lossy(bytes), false).ok();
        for kind in
            [sealift::workloads::FileKind::Kustomization, sealift::workloads::FileKind::Manifests, sealift::workloads::FileKind::Template]
        {
            kind.read(bytes);
        }
    });
}
