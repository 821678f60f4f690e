//! Whole Kubefiles: what they say and what is wrong with them.

use proptest::prelude::*;

use super::*;
use crate::diagnostic::{Diagnostic, render_all};

fn instructions(text: &str) -> String {
    parse("Kubefile", text).kubefile.to_string()
}

/// Severity, the marked text and the message of each diagnostic, one a line.
fn complaints(text: &str) -> Vec<String> {
    let mark = |diagnostic: &crate::diagnostic::Diagnostic| {
        let severity = if diagnostic.is_error() { "error" } else { "warning" };
        format!("{severity} [{}] {}", &text[diagnostic.span.clone()], diagnostic.message)
    };
    parse("Kubefile", text).diagnostics.iter().map(mark).collect()
}

#[test]
fn every_instruction_is_read() {
    let text = r#"# a whole Kubefile
ARG BASE=kubernetes:v1.20.2
FROM --platform=linux/arm64 ${BASE} as Base
from scratch
arg Version=4.0.0 Other
ENV A=1 B="two words" C=it\ is
env OLD form of it
COPY --from=base --chmod=0755 --chown=0:0 --exclude=*.md --exclude=doc bin/ ${ARCH}/x ./bin
COPY ["a b", "c/"]
COPY --link --parents --chmod=u=rwX,go=rX a/./b c/
ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/a.tgz /opt/
RUN echo a && \
    # comment
    echo b
RUN ["/bin/sh", "-c", "echo $HOME"]
LABEL "app.x/y"="z" v=1
MAINTAINER Some One <one@example.com>
APP web local://web.yaml https://example.com/b.yaml
CNI net local://net
CSI disk oci://registry.example.com/charts/disk:1.0
APPENV web K=v L="m n"
APPCMDS web ["kubectl apply", "-f ."]
KUBEVERSION ">=1.19.0 <1.23.0"
IMAGES nginx:1.21 registry.example.com/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000
LAUNCH ["net", "web"]
"#;
    assert_eq!(complaints(text), Vec::<String>::new());
    insta::assert_snapshot!(instructions(text), @r#"
    ARG BASE=kubernetes:v1.20.2
    FROM --platform=linux/arm64 ${BASE} AS Base
    FROM scratch
    ARG Version=4.0.0 Other
    ENV A=1 B="two words" C=it\ is
    ENV OLD form of it
    COPY --from=base --chmod=0755 --chown=0:0 --exclude=*.md --exclude=doc bin/ ${ARCH}/x ./bin
    COPY ["a b","c/"]
    COPY --link --parents --chmod=u=rwX,go=rX a/./b c/
    ADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://example.com/a.tgz /opt/
    RUN echo a &&     echo b
    RUN ["/bin/sh","-c","echo $HOME"]
    LABEL "app.x/y"="z" v=1
    MAINTAINER Some One <one@example.com>
    APP web local://web.yaml https://example.com/b.yaml
    CNI net local://net
    CSI disk oci://registry.example.com/charts/disk:1.0
    APPENV web K=v L="m n"
    APPCMDS web ["kubectl apply","-f ."]
    KUBEVERSION ">=1.19.0 <1.23.0"
    IMAGES nginx:1.21 registry.example.com/a/b@sha256:0000000000000000000000000000000000000000000000000000000000000000
    LAUNCH ["net","web"]
    "#);
}

#[test]
fn heredocs_are_scripts_inputs_and_files() {
    let text = "FROM scratch\nRUN <<EOF\necho $A\nEOF\nRUN cat <<-'A' <<B > x\n\tone\n\tA\ntwo\nB\nCOPY <<\"a.conf\" b etc/\nk=$v\na.conf\nCMD ls\n";
    assert_eq!(complaints(text), Vec::<String>::new());
    let steps = parse("K", text).kubefile.stages.remove(0).steps;
    let script = |step: &Step| match &step.instruction {
        Instruction::Run(run) => run.script(),
        _ => None,
    };
    assert_eq!(script(&steps[0]).unwrap(), "echo $A\n");
    assert_eq!(script(&steps[1]).unwrap(), "cat <<-'A' <<B > x\none\nA\ntwo\nB");
    let Instruction::Copy(files) = &steps[2].instruction else { panic!("no COPY: {:?}", steps[2]) };
    let [Source::Inline(file), Source::Path(path)] = files.sources.as_slice() else { panic!("{files:?}") };
    assert_eq!((file.name.as_str(), file.content.value.as_str(), file.expand), ("a.conf", "k=$v\n", false));
    assert_eq!((path.value.as_str(), files.dest.value.as_str()), ("b", "etc/"));
    assert_eq!((steps[3].line, &text[steps[0].span.clone()]), (13, "RUN <<EOF\necho $A\nEOF\n"));
}

#[test]
fn all_errors_of_a_file_are_drawn_at_once() {
    let text = "FROM scratch\nCOYP a b\nCOPY a\nAPP web web.yaml\nAPPCMDS web ['ls']\nKUBEVERSION latest\nLAUNCH [\"wbe\"]\n";
    insta::assert_snapshot!(render_all(&parse("Kubefile", text).diagnostics, text, false), @r#"
    error: unknown instruction `COYP`
     --> Kubefile:2:1
      |
    2 | COYP a b
      | ^^^^
      |
      = help: did you mean `COPY`?

    error: a destination is missing
     --> Kubefile:3:6
      |
    3 | COPY a
      |      ^
      |
      = help: write `COPY [--flags] source … destination`

    error: `web.yaml` does not say where the application comes from
     --> Kubefile:4:9
      |
    4 | APP web web.yaml
      |         ^^^^^^^^
      |
      = help: did you mean `local://web.yaml`? sources are `local://path`, `https://…`, `http://…` or `oci://registry/chart:tag`

    error: want a JSON list of strings
     --> Kubefile:5:13
      |
    5 | APPCMDS web ['ls']
      |             ^^^^^^ JSON needs double quotes
      |
      = help: write `APPCMDS app ["command", …]`

    error: `latest` is not a version or a range of versions
     --> Kubefile:6:13
      |
    6 | KUBEVERSION latest
      |             ^^^^^^
      |
      = help: write it like `>=1.19.0 <1.23.0`, `1.20.x`, `^1.22` or `1.18 - 1.20`

    error: no application `wbe` is declared
     --> Kubefile:7:9
      |
    7 | LAUNCH ["wbe"]
      |         ^^^^^
      |
      = help: did you mean `web`?
    "#);
}

#[test]
fn each_mistake_is_named_where_it_is() {
    for (text, expected) in [
        ("", "error [] the Kubefile does not start with FROM"),
        ("# only comments\n", "error [] the Kubefile does not start with FROM"),
        ("COPY a b\n", "error [COPY a b] the Kubefile does not start with FROM"),
        ("FROM\n", "error [FROM] FROM without an image"),
        ("FROM a b\n", "error [b] FROM takes one image"),
        ("FROM A\n", "error [A] image name `A`: invalid reference format"),
        ("FROM --platfrom=x a\n", "error [--platfrom=x] unknown flag `--platfrom`"),
        ("FROM --platform=x scratch\n", "error [x] platform `x`: expected os/arch[/variant]"),
        ("FROM scratch AS 1\n", "error [1] `1` is not a valid stage name"),
        ("FROM scratch AS a\nFROM scratch AS A\n", "error [A] an earlier stage is named `A` already"),
        ("FROM scratch\nWORKDIR /\n", "error [WORKDIR] unknown instruction `WORKDIR`"),
        ("FROM scratch\nENV\n", "error [ENV] a key and a value are missing"),
        ("FROM scratch\nENV A=1 B\n", "error [B] `B` is not of the form key=value"),
        ("FROM scratch\nENV A=${B\n", "error [${B] `${` is not closed by `}`"),
        ("FROM scratch\nENV A='x\n", "error ['x] a single quote is not closed"),
        ("FROM scratch\nARG 1=2\n", "error [1] `1` is not a valid build argument name"),
        ("FROM scratch\nARG a=1,b=2\n", "warning [1,b=2] all of this is the value of `a`"),
        ("FROM scratch\nCOPY $NO b\n", "warning [$NO] nothing sets `NO`: it is empty here"),
        ("ARG NO\nFROM scratch\nCOPY $NO b\n", "warning [$NO] nothing sets `NO`: it is empty here"),
        ("FROM ack:${TAG}\n", "warning [ack:${TAG}] nothing sets `TAG`: it is empty here"),
        ("FROM scratch\nCOPY --from=1 a b\n", "error [1] there is no stage 1 before this one"),
        ("FROM scratch AS a\nCOPY --from=a a b\n", "error [a] `a` is this stage itself"),
        ("FROM scratch\nCOPY --chmod=999 a b\n", "error [999] `999` is not a valid file mode"),
        ("FROM scratch\nCOPY --chmod=u+y a b\n", "error [u+y] `u+y` is not a valid file mode"),
        ("FROM scratch\nCOPY --link=maybe a b\n", "error [maybe] `--link` is `true` or `false`"),
        ("FROM scratch\nADD --parents a b\n", "error [--parents] unknown flag `--parents`"),
        ("FROM scratch\nCOPY --chown=: a b\n", "error [:] `:` is not a valid owner"),
        ("FROM scratch\nCOPY --chmod a b\n", "error [--chmod] `--chmod` needs a value"),
        ("FROM scratch\nADD --from=a a b\n", "error [--from=a] unknown flag `--from`"),
        ("FROM scratch\nADD --checksum=sha256:1 https://a.example/b c\n", "error [sha256:1] `sha256:1` is not a valid checksum"),
        ("FROM scratch\nCOPY https://a.example/b c\n", "warning [https://a.example/b] COPY from a URL is Sealer's older spelling"),
        ("FROM scratch\nCOPY git@a.example:b c\n", "error [git@a.example:b] copying from a git repository is not supported"),
        ("FROM scratch\nCOPY a b # why\n", "warning [# why] a comment after an instruction is ignored here"),
        ("FROM scratch\nRUN\n", "error [RUN] nothing follows the instruction"),
        ("FROM scratch\nRUN []\n", "error [[]] RUN without a program"),
        ("FROM scratch\nRUN --mount=type=cache,target=/x ls\n", "error [--mount=type=cache,target=/x] unknown flag `--mount`"),
        ("FROM scratch\nRUN <<EOF\nls\n", "error [<<EOF] the heredoc `EOF` does not end"),
        ("FROM scratch\nAPP a\n", "error [a] application `a` has no sources"),
        ("FROM scratch\nAPP ../a local://b\n", "error [../a] `../a` is not a valid application name"),
        ("FROM scratch\nAPP a ftp://b\n", "error [ftp://b] no sources are `ftp://`"),
        ("FROM scratch\nAPP a local://\n", "error [local://] nothing follows `local://`"),
        (
            "FROM scratch\nAPP a local://b\nAPP a local://c\n",
            "warning [a] application `a` is declared again: this one replaces the one before",
        ),
        ("FROM scratch\nAPPENV a K=v\nAPP a local://b\n", "error [a] application `a` is declared only later"),
        ("FROM scratch\nAPPENV a K=v\n", "error [a] no application `a` is declared"),
        ("FROM scratch\nAPP a local://b\nAPPCMDS a ls\n", "error [ls] want a JSON list of strings"),
        ("FROM scratch\nCMDS [\"a\",]\n", "error [[\"a\",]] want a JSON list of strings"),
        ("FROM scratch\nCMD []\n", "error [[]] the list is empty"),
        ("FROM scratch\nIMAGES A:b\n", "error [A:b] image name `A:b`: invalid reference format"),
        ("FROM k:1\nLAUNCH [\"a\",\"a\"]\n", "error [\"a\"] LAUNCH names `a` twice"),
        ("FROM k:1\nLAUNCH a\nLAUNCH b\n", "error [LAUNCH b] LAUNCH is given twice"),
        ("FROM k:1\nCMD a\nLAUNCH b\n", "error [LAUNCH b] LAUNCH and CMDS (or CMD) exclude each other"),
        ("FROM k:1\nLAUNCH b\nCOPY a b\n", "warning [LAUNCH b] LAUNCH is not the last instruction"),
        ("FROM scratch AS a\nAPP x local://x\nFROM a\nLAUNCH y\n", "error [y] no application `y` is declared"),
    ] {
        let complaints = complaints(text);
        assert!(complaints.iter().any(|complaint| complaint == expected), "{text:?}: want {expected:?}, got {complaints:?}");
    }
}

#[test]
fn what_only_an_image_can_tell_is_not_complained_of() {
    for text in [
        "FROM k:1\nAPPENV calico K=v\nAPPCMDS calico [\"ls\"]\nCOPY $FROM_BASE x\nLAUNCH [\"calico\"]\n",
        "FROM k:1 AS b\nFROM b\nLAUNCH calico\n",
        "FROM scratch\nCOPY ${ARCH}/bin $TARGETPLATFORM\nCOPY --from=other/image:1 a b\n",
        "FROM scratch\nENV A=1\nCOPY $A ${B:-b} x\nCMD kubectl apply -f ${Version}.yaml\nCMD ls\n",
        "FROM scratch\nLAUNCH []\n",
    ] {
        assert_eq!(complaints(text), Vec::<String>::new(), "{text}");
    }
}

/// Lines that are near to what people write, and to what breaks parsers.
fn line() -> impl Strategy<Value = String> {
    let keyword = prop::sample::select(INSTRUCTIONS.to_vec());
    let operand = prop_oneof![
        "[a-z$/.{}:=\"'\\\\\\[\\],#<>-]{0,12}",
        "\\PC{0,8}",
        prop::sample::select(vec![
            "local://a",
            "[\"a\", \"b c\"]",
            "K=v",
            "<<EOF",
            "<<-'E'",
            "EOF",
            "--from=a",
            "AS",
            "\\",
            "# x",
            "scratch",
            "\\\\"
        ])
        .prop_map(str::to_owned),
    ];
    (prop::option::weighted(0.9, keyword), prop::collection::vec(operand, 0..5))
        .prop_map(|(keyword, operands)| format!("{} {}", keyword.unwrap_or_default(), operands.join(" ")))
}

#[test]
fn instructions_of_containers_are_refused_with_what_to_do_instead() {
    for (line, instead) in [
        ("ENTRYPOINT [\"a\"]", "LAUNCH or CMDS"),
        ("EXPOSE 80", "manifests of an APP"),
        ("HEALTHCHECK CMD true", "probes"),
        ("ONBUILD RUN true", "starts from this image"),
        ("SHELL [\"bash\", \"-c\"]", "RUN [\"bash\""),
        ("STOPSIGNAL 9", "manifests of an APP"),
        ("USER nobody", "setpriv"),
        ("VOLUME /data", "CSI"),
        ("WORKDIR /opt", "cd dir"),
    ] {
        let text = format!("FROM scratch\n{line}\n");
        let [error] = parse("K", &text).diagnostics.try_into().unwrap();
        let help = error.help.clone().unwrap();
        assert!(error.is_error() && help.contains("a cluster image is not a container") && help.contains(instead), "{line}: {help}");
    }
}

#[test]
fn lines_go_on_as_in_dockerfiles() {
    for (name, text, expected) in [
        ("comments between", "FROM scratch\nRUN a \\\n# no\n  # no\n  b\n", "FROM scratch\nRUN a   b\n"),
        ("blanks after the escape", "FROM scratch\nRUN a \\  \n b\n", "FROM scratch\nRUN a  b\n"),
        ("windows line ends", "FROM scratch\r\nRUN a \\\r\n b\r\n", "FROM scratch\nRUN a  b\n"),
        ("a hash inside", "FROM scratch\nRUN echo '#x' # y\n", "FROM scratch\nRUN echo '#x' # y\n"),
        ("the other escape", "# escape=`\nFROM scratch\nRUN a `\n b\\\n", "# escape=`\nFROM scratch\nRUN a  b\\\n"),
        ("a directive after a comment is a comment", "# x\n# escape=`\nFROM scratch\nRUN a \\\n b\n", "FROM scratch\nRUN a  b\n"),
        (
            "syntax is left alone",
            "# syntax=docker/dockerfile:1\n# escape=`\nFROM scratch\nRUN `\n a\n",
            "# escape=`\nFROM scratch\nRUN a\n",
        ),
    ] {
        let parsed = parse("K", text);
        assert!(!parsed.diagnostics.iter().any(Diagnostic::is_error), "{name}: {:?}", parsed.diagnostics);
        assert_eq!(parsed.kubefile.to_string(), expected, "{name}");
    }
}

#[test]
fn an_escape_that_escapes_nothing_is_left_out() {
    for (text, expected) in
        [("FROM scratch\nLABEL a=b\\ \\", "FROM scratch\nLABEL a=b\n"), ("FROM scratch\nLABEL a=b\\\\", "FROM scratch\nLABEL a=b\\\\\n")]
    {
        assert_eq!(parse("K", text).kubefile.to_string(), expected, "{text}");
    }
    assert!(!parse("K", "FROM \\ \\").diagnostics.is_empty());
}

#[test]
fn spans_of_keys_and_flags_lie_on_characters_over_continued_lines() {
    for text in [
        "FROM scratch\nAPPENV a K=v ' \\\n \u{cbc}= '",
        "FROM scratch\nCOPY --from='a\\\n\u{cbc}b' a b",
        "FROM scratch\nARG ' \\\n \u{cbc}=1'",
    ] {
        for diagnostic in parse("K", text).diagnostics {
            assert!(text.get(diagnostic.span.clone()).is_some(), "{diagnostic:?} of {text:?}");
        }
    }
}

proptest! {
    #[test]
    fn parsing_never_panics_and_printing_keeps_the_meaning(lines in prop::collection::vec(line(), 0..12), end in "\\PC{0,3}") {
        let text = lines.join("\n") + &end;
        let parsed = parse("K", &text);
        for diagnostic in &parsed.diagnostics {
            prop_assert!(text.get(diagnostic.span.clone()).is_some(), "{diagnostic:?} of {text:?}");
            diagnostic.render(&text, false);
        }
        if !parsed.diagnostics.iter().any(Diagnostic::is_error) {
            let printed = parsed.kubefile.to_string();
            prop_assert_eq!(&parse("K", &printed).kubefile, &parsed.kubefile, "{} printed as {}", text, printed);
        }
    }

    #[test]
    fn parsing_never_panics_on_anything(text in "(?s).{0,200}") {
        render_all(&parse("K", &text).diagnostics, &text, true);
    }
}
