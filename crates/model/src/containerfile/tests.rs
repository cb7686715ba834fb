use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::names::Platform;

fn resolve_text(text: &str, target: Option<&str>) -> Result<Resolved, Vec<Fault>> {
    let platform: Platform = "linux/arm64".parse().unwrap();
    let args = BTreeMap::from([("TAG".to_owned(), "9".to_owned())]);
    resolve(&read(text), &Inputs { platform: &platform, args: &args, target })
}

fn rewritten(text: &str) -> String {
    let resolved = resolve_text(text, None).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    rewrite(&read(text), &resolved, |origin| match origin {
        Origin::Image(image) => format!("<{}>", image.reference),
        _ => "<base>".to_owned(),
    })
}

#[test]
fn instructions_are_joined_and_here_documents_skipped() {
    let shown = |text: &str| -> Vec<String> {
        let show = |it: &Instruction| {
            let documents: Vec<String> =
                it.here_documents.iter().map(|it| format!(" [{}]", it.text)).collect();
            let documents = documents.concat();
            format!("{}-{} {} {}{documents}", it.line, it.last, it.keyword, it.arguments)
        };
        instructions(text).iter().map(show).collect()
    };
    for (text, want) in [
        ("# syntax=x\nARG V=1\nrun a \\\n# not here\n\n  b\n", &["2-2 ARG V=1", "3-6 RUN a   b"][..]),
        ("RUN a\\\nb \\  \nc\nCMD d", &["1-3 RUN ab c", "4-4 CMD d"]),
        (
            "RUN <<EOF cat <<-'X Y'\nFROM no\nEOF\n\t X\n\tX Y\nFROM a",
            &["1-1 RUN <<EOF cat <<-'X Y' [FROM no\nEOF\n] [\t X\n\tX Y\n]", "6-6 FROM a"],
        ),
        (
            "RUN cat <<DONE>/file && x\na\nDONE\nFROM a",
            &["1-1 RUN cat <<DONE>/file && x [a\nDONE\n]", "4-4 FROM a"],
        ),
        ("RUN echo \"use <<EOF here\"\nFROM a", &["1-1 RUN echo \"use <<EOF here\"", "2-2 FROM a"]),
        ("RUN a <<E<<F\nRUN <<'E<F' b\nFROM a", &["1-1 RUN a <<E<<F", "2-2 RUN <<'E<F' b", "3-3 FROM a"]),
        ("RUN echo 'a\\' <<'E F'\nE F\nFROM a", &["1-1 RUN echo 'a\\' <<'E F' [E F\n]", "3-3 FROM a"]),
        (
            "RUN echo \\<<EOF $((1<<3)) <<<x a<<b\nFROM a",
            &["1-1 RUN echo \\<<EOF $((1<<3)) <<<x a<<b", "2-2 FROM a"],
        ),
        ("COPY 3<<E /y\r\nx\r\nE\r\nFROM a\r\n", &["1-1 COPY 3<<E /y [x\nE\n]", "4-4 FROM a"]),
        ("ENV A=<<EOF\nFROM a", &["1-1 ENV A=<<EOF", "2-2 FROM a"]),
        ("ONBUILD RUN <<E\nx\nE\nFROM a", &["1-1 ONBUILD RUN <<E [x\nE\n]", "4-4 FROM a"]),
        ("\u{feff}FROM a\r\nRUN b \\\r\n c\r\n", &["1-1 FROM a", "2-3 RUN b  c"]),
        ("# escape=`\nENV A=C:\\\nRUN b `\n c\n", &["2-2 ENV A=C:\\", "3-4 RUN b  c"]),
        ("# syntax=x\n#Escape = `\nENV A=C:\\\nRUN b", &["3-3 ENV A=C:\\", "4-4 RUN b"]),
        ("# a comment\n# escape=`\nENV A=\\\nb\n", &["3-4 ENV A=b"]),
        ("\n# escape=`\nENV A=\\\nb\n", &["3-4 ENV A=b"]),
        ("RUN a \\\u{b}\nRUN b \\ \\\\ \\\n\n# c\n", &["1-1 RUN a", "2-2 RUN b"]),
    ] {
        assert_eq!(shown(text), want, "{text}");
        assert!(read(text).faults.is_empty(), "{:?}", read(text).faults);
    }
    for (text, line, want) in [
        ("FROM a\nRUN <<X\nFROM b\n", 2, "the here-document `<<X` has no end"),
        ("FROM a\nRUN <<X\nx\n X\n", 2, "the here-document `<<X` has no end"),
        ("# escape=x\nFROM a", 1, "invalid escape character `x`"),
        ("FROM a\n\nset -e\n", 3, "unknown instruction `SET`"),
    ] {
        let faults = read(text).faults;
        assert_eq!((faults[0].line, faults[0].message.as_str()), (line, want), "{text}");
    }
}

#[test]
fn names_of_containerfiles() {
    for name in ["Containerfile", "Containerfile.hmi", "hmi.containerfile", "Dockerfile", "hmi.dockerfile"] {
        assert!(crate::tree::is_containerfile(name), "{name}");
    }
    assert!(!crate::tree::is_containerfile("Makefile"));
}

#[test]
fn stages_are_found_by_name() {
    let all = instructions("FROM \\\n  \"a\" as One\nRUN x\nFROM one\nFROM --platform=linux/amd64 B AS c");
    let stages = stages(&all);
    assert_eq!((stages[0].line, stages[0].last, stages[0].from.as_str()), (1, 2, "a"));
    assert_eq!(root(&stages, 1), Some(&stages[0]));
    assert_eq!((stages[2].from.as_str(), stages[2].platform.as_deref()), ("B", Some("linux/amd64")));
    assert_eq!(root(&stages, 3), None);
}

/// The built stage is the base with something added, or takes something from it.
#[test]
fn the_built_stage_rests_on_the_base() {
    for (text, target) in [
        ("ARG BASE\nFROM ${BASE}\nRUN true", None),
        ("# x\narg BASE=x OTHER\nfrom $BASE as b\n", None),
        ("ARG BASE\nFROM golang:1 AS build\nFROM --platform=linux/amd64 ${BASE}", None),
        ("ARG BASE\nFROM ${BASE} AS a\nFROM a AS b\nFROM B", None),
        ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", Some("A")),
        ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", Some("0")),
        ("ARG BASE\nFROM \"${BASE:-scratch}\" AS a\nFROM a\n", None),
        ("ARG BASE\nARG IMAGE=${BASE}\nFROM ${OTHER:-${IMAGE:-x}}\n", None),
        ("ARG BASE\nFROM $BASE\nRUN <<EOF\nFROM debian\nEOF\n", None),
        ("ARG BASE\nFROM $BASE\nRUN a \\\n# FROM x\n  b\n", None),
        ("ARG BASE\nFROM $BASE AS full\nRUN x\nFROM scratch\nCOPY --from=full / /\n", None),
        ("ARG BASE\nFROM $BASE AS full\nFROM scratch AS s\nFROM s\nCOPY --from=0 / /\n", None),
        ("ARG BASE\nFROM scratch\nARG BASE\nCOPY --from=${BASE} / /\n", None),
        // f20
        (
            "# escape=`\nARG BASE\nFROM scratch AS ctx\nENV PLACE=C:\\temp\\\nFROM ${BASE} AS win\nRUN a `\n > b\n",
            None,
        ),
        // f09
        ("\u{feff}ARG BASE\r\nFROM ${BASE}\r\nRUN echo ok > /etc/ok\r\n", None),
    ] {
        assert!(resolve_text(text, target).is_ok(), "{text}: {:?}", resolve_text(text, target));
    }
    for (text, target, line, want) in [
        ("ARG BASE\nFROM ${BASE} AS a\nFROM debian", None, 3, "starts from `debian`"),
        ("ARG BASE\nFROM \\\n  debian", None, 2, "starts from `debian`"),
        ("ARG BASE\nFROM a AS a\n", None, 2, "starts from `a`"),
        ("ARG BASE\nFROM debian AS one\nFROM one AS two\nFROM ${BASE}\n", Some("two"), 2, "from `debian`"),
        ("FROM ${BASE}", None, 1, "without `ARG BASE`"),
        ("FROM x\nARG BASE\nFROM ${BASE}", None, 3, "without `ARG BASE`"),
        ("# RUN true", None, 1, "has no FROM"),
        ("RUN true", None, 1, "RUN before the first FROM"),
        ("ARG BASE\nFROM $BASE", Some("z"), 1, "no stage `z`"),
        ("ARG BASE\nFROM $BASE AS a\nFROM scratch\nCOPY . /\n", None, 3, "takes nothing from `${BASE}`"),
        ("ARG BASE\nFROM $BASE-x\n", None, 2, "neither a stage"),
        ("ARG BASE\nFROM $BASE AS a b\n", None, 2, "malformed FROM"),
        // f04
        (
            "ARG BASE\nFROM ${BASE} AS first\nRUN echo \"docs say: use <<EOF here\" > /etc/doc.txt\nFROM 127.0.0.1:47200/tools:1\n",
            None,
            4,
            "starts from `127.0.0.1:47200/tools:1`",
        ),
        (
            "ARG BASE\nFROM ${BASE} AS first\nRUN cat <<DONE>/file\nx\nDONE\nFROM 127.0.0.1:47200/tools:1\n",
            None,
            6,
            "starts from `127.0.0.1:47200/tools:1`",
        ),
    ] {
        let faults = resolve_text(text, target).expect_err(text);
        assert_eq!(faults[0].line, line, "{text}: {faults:?}");
        assert!(faults[0].message.contains(want), "{text}: {faults:?}");
    }
}

#[test]
fn images_of_registries_are_found() {
    let of = |lines: &str| -> Vec<String> {
        let text = format!("ARG BASE\nARG R=quay.io\nARG U=${{R}}/u\nFROM ${{BASE}} AS app\n{lines}\n");
        let resolved = resolve_text(&text, Some("app")).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
        let show = |image: &&ForeignImage| format!("{} {}", image.reference, image.platform);
        resolved.images().iter().map(show).collect()
    };
    for (lines, want) in [
        ("COPY --from=quay.io/a/b:1 /a /a", &["quay.io/a/b:1 linux/arm64"][..]),
        ("COPY --chmod=755 --from=\"tools:1\" a /a", &["docker.io/library/tools:1 linux/arm64"]),
        (
            "COPY --from=docker.io/me a /a\nCOPY --from=me/x a /a",
            &["docker.io/library/me linux/arm64", "docker.io/me/x linux/arm64"],
        ),
        ("ARG TAG U\nCOPY --from=${U}/x:${TAG:-1} /a /a", &["quay.io/u/x:9 linux/arm64"]),
        ("ARG U\nCOPY --from=${U:+x.y/z}${NONE:-:2}-$U-x /a /a\nFROM a", &[]),
        (
            "ENV V=3\nRUN --mount=type=cache,target=/x --mount=from=quay.io/a:$V,target=/y ls",
            &["quay.io/a:3 linux/arm64"],
        ),
        ("ARG TARGETARCH\nCOPY --from=quay.io/tool:${TARGETARCH} a /a", &["quay.io/tool:arm64 linux/arm64"]),
        ("RUN echo --from=quay.io/a --mount=from=quay.io/b", &[]),
        ("COPY --from=app2 a /a", &[]),
    ] {
        if want.is_empty() && lines.contains("COPY") {
            let text = format!("ARG BASE\nFROM ${{BASE}} AS app\n{lines}\n");
            assert!(resolve_text(&text, Some("app")).is_err(), "{text}");
            continue;
        }
        assert_eq!(of(lines), want, "{lines}");
    }
    let stages = "ARG BASE\nARG V=1\nFROM quay.io/go:${V} AS build\nFROM --platform=linux/amd64 quay.io/go AS x86\nFROM quay.io/no AS no\nFROM ${BASE}\nCOPY --from=build / /\nCOPY --from=1 / /\n";
    let resolved = resolve_text(stages, None).unwrap();
    let shown: Vec<String> =
        resolved.images().iter().map(|it| format!("{} {}", it.reference, it.platform)).collect();
    assert_eq!(
        shown,
        ["quay.io/go linux/amd64", "quay.io/go:1 linux/arm64"],
        "a stage that is not needed is left out"
    );
}

#[test]
fn names_that_cannot_be_known_are_faults_of_their_line() {
    for (lines, line, want) in [
        ("FROM ${NO} AS a\nFROM $BASE\nCOPY --from=a / /", 2, "`${NO}` is: it is empty"),
        ("FROM $BASE\nCOPY --from=${NO} / /", 3, "`${NO}` is: it is empty"),
        ("FROM $BASE\nRUN x\\\n y\nRUN --mount=from=$NO,target=/x ls", 5, "`$NO` is: it is empty"),
        ("FROM a AS builder\nFROM $BASE\nCOPY --from=biulder / /", 4, "there is no stage `biulder`"),
        ("FROM $BASE AS self\nCOPY --from=self / /", 3, "the stage `self` is not complete here"),
        ("FROM $BASE\nCOPY --from=scratch / /", 3, "it is empty"),
        ("FROM $BASE\nCOPY --from=docker-archive:/x / /", 3, "neither a stage"),
        ("FROM $BASE\nCOPY --from=docker://quay.io/x / /", 3, "neither a stage"),
        ("FROM $BASE\nCOPY --from=${X#a} / /", 3, "is not supported"),
        ("FROM $BASE\nCOPY --from=${X:-a / /", 3, "is not closed"),
        ("FROM --platform=$NO $BASE", 2, "cannot tell the platform `$NO`"),
    ] {
        let text = format!("ARG BASE\n{lines}\n");
        let faults = resolve_text(&text, None).expect_err(&text);
        assert_eq!(faults[0].line, line, "{text}: {faults:?}");
        assert!(faults[0].message.contains(want), "{text}: {faults:?}");
    }
}

/// Values double with each line: the whole is bounded.
#[test]
fn values_are_bounded() {
    let mut text = "ARG BASE\nARG A0=0123456789\n".to_owned();
    for number in 1..60 {
        let before = number - 1;
        text.extend([format!("ARG A{number}=$A{before}$A{before}\n")]);
    }
    text.push_str("FROM quay.io/$A59 AS a\nFROM $BASE\nCOPY --from=a / /\n");
    assert!(resolve_text(&text, None).is_err());
    let deep = format!("ARG BASE\nFROM {}$BASE{}\n", "${X:-".repeat(100_000), "}".repeat(100_000));
    assert!(resolve_text(&deep, None).unwrap_err()[0].message.contains("too deeply"));
}

#[test]
fn mentions_are_rewritten() {
    for (text, want) in [
        (
            "\u{feff}# syntax=docker/dockerfile:1\r\n# escape=`\r\nARG BASE\r\nFROM golang AS unused\r\nRUN x\r\nFROM ${BASE} AS Win\r\nRUN a `\r\n b\r\n",
            "# escape=`\nARG BASE\nFROM <base> AS win\nRUN a  b\n",
        ),
        (
            "ARG BASE\nFROM --platform=$BUILDPLATFORM golang:1 AS build\nRUN go\nFROM ${BASE}\nCOPY --link --from=0 /a /a\nRUN --mount=type=cache,target=/c --mount=type=bind,from=quay.io/a/b,target=/b cat <<X>/y\nx\nX\n",
            "ARG BASE\nFROM <docker.io/library/golang:1> AS build\nRUN go\nFROM <base> AS stage-1\nCOPY --link --from=build /a /a\nRUN --mount=type=cache,target=/c --mount=type=bind,target=/b,from=<quay.io/a/b> cat <<X >/y\nx\nX\n",
        ),
        (
            "ARG BASE\nFROM $BASE AS a\nRUN a\nFROM a AS a\nRUN b\nFROM a AS stage-1\nRUN c\nFROM scratch\nCOPY --from=Stage-1 / /\n",
            "ARG BASE\nFROM <base> AS stage-0\nRUN a\nFROM stage-0 AS stage-1x\nRUN b\nFROM stage-1x AS stage-1\nRUN c\nFROM scratch AS stage-3\nCOPY --from=stage-1 / /\n",
        ),
        (
            "ARG BASE\nFROM --platform=linux/amd64 quay.io/a/b AS x86\nFROM $BASE\nCOPY --from=x86 / /\n",
            "ARG BASE\nFROM --platform=linux/amd64 <quay.io/a/b> AS x86\nFROM <base> AS stage-1\nCOPY --from=x86 / /\n",
        ),
        (
            "ARG BASE\nFROM quay.io/a/b AS common\nFROM common AS again\nFROM $BASE AS c\nFROM c\nCOPY --from=again / /\n",
            "ARG BASE\nFROM <base> AS stage-3\nCOPY --from=<quay.io/a/b> / /\n",
        ),
        (
            "ARG BASE\nFROM $BASE AS a\nCMD x\nSHELL [\"/bin/bash\", \"-c\"]\nRUN y\nFROM a\nENTRYPOINT z \"z\"\nCMD [\"v\"]\n",
            "ARG BASE\nFROM <base> AS a\nCMD x\nSHELL [\"/bin/bash\", \"-c\"]\nRUN y\nFROM a AS stage-1\nENTRYPOINT [\"/bin/bash\",\"-c\",\"z \\\"z\\\"\"]\nCMD [\"v\"]\n",
        ),
    ] {
        assert_eq!(rewritten(text), want, "{text}");
    }
}

#[test]
fn a_here_document_cannot_begin_in_a_flag() {
    let options = ["target=a` <<A>ä", "'target=a <<A>ä'", "target=a` <`<A"];
    for option in options {
        let text = format!(
            "# escape=`\nARG BASE\nFROM ${{BASE}}\nRUN --mount=type=bind,from=docker.io/x/y:1,{option} c\nA\n"
        );
        let faults = resolve_text(&text, None).unwrap_err();
        assert_eq!(faults[0].line, 4, "{faults:?}");
        assert_eq!(faults[0].message, "a flag contains `<<`, which begins a here-document", "{text}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "(FROM|ARG|RUN|COPY|BASE|--from=|--mount=|from=|[ \\\\\n<#a$\"'{}:,=`\r\u{feff}>|-])*", target in proptest::option::of(".*")) {
        if let Ok(resolved) = resolve_text(&text, target.as_deref()) {
            let _ = rewrite(&read(&text), &resolved, |_| "x".to_owned());
            let _ = context_sources(&read(&text), &resolved);
        }
    }

    /// Every instruction has the line on which it begins, whatever is between and inside of them.
    #[test]
    fn lines_are_right(parts in proptest::collection::vec(part(), 0..20), crlf in any::<bool>(), bom in any::<bool>()) {
        let mut text = String::new();
        let mut want = Vec::new();
        for (part, keyword) in &parts {
            want.extend(keyword.map(|keyword| (text.lines().count() + 1, keyword.to_owned())));
            text.push_str(part);
        }
        if crlf {
            text = text.replace('\n', "\r\n");
        }
        if bom {
            text.insert(0, '\u{feff}');
        }
        let file = read(&text);
        let found: Vec<(usize, String)> = file.instructions.iter().map(|it| (it.line, it.keyword.clone())).collect();
        prop_assert_eq!(found, want);
        prop_assert_eq!(file.faults, vec![]);
    }

    /// buildah reads the same instructions as planning.
    #[test]
    fn rewriting_keeps_instructions(parts in proptest::collection::vec(part(), 0..20), escape in any::<bool>()) {
        let body: String = parts.iter().map(|(text, _)| text.as_str()).collect();
        let mut text = format!("ARG BASE\nFROM $BASE\n{body}");
        if escape {
            text = format!("# escape=`\n{}", text.replace('\\', "`"));
        }
        let file = read(&text);
        let resolved = resolve_text(&text, None).unwrap();
        let again = read(&rewrite(&file, &resolved, |_| "base".to_owned()));
        let shown = |file: &Containerfile| -> Vec<(String, String, Vec<HereDocument>)> {
            let all = file.instructions.iter().skip(2);
            all.map(|it| (it.keyword.clone(), it.arguments.clone(), it.here_documents.clone())).collect()
        };
        prop_assert_eq!(shown(&again), shown(&file));
    }
}

/// Lines, and the instruction that they are.
fn part() -> impl Strategy<Value = (String, Option<&'static str>)> {
    prop_oneof![
        Just(("# FROM x\n".to_owned(), None)),
        Just(("\n  \n".to_owned(), None)),
        "[a-z ]{0,9}".prop_map(|words| (format!("run x {words}\n"), Some("RUN"))),
        "[a-z ]{0,9}".prop_map(|words| (format!("  LABEL a=\\\n# c\n\n {words}\\ \n  b\n"), Some("LABEL"))),
        "(FROM [a-z]{1,3}\n|# x\n|\t[a-z]+\\\\\n){0,3}"
            .prop_map(|body| (format!("RUN cat <<-'E F' - 3<<G && x\n{body}\tE F\n{body}G\n"), Some("RUN"))),
        Just(("COPY \\\n <<X /y\nENV z\nX\n".to_owned(), Some("COPY"))),
        Just(("RUN echo \"<<E\" '<<F' \\<<G\n".to_owned(), Some("RUN"))),
    ]
}
