//! Generated Helm charts: templates and values that a seed determines, made of what Go's templates, sprig and Helm have.

use std::collections::BTreeMap;

/// The files of a chart by path.
pub type Files = BTreeMap<String, String>;

/// A chart, and the values that a user gives it.
#[derive(Debug, Clone)]
pub struct Case {
    /// The files.
    pub files: Files,
    /// A values file; empty for none.
    pub values: String,
    /// An argument of `--set`; empty for none.
    pub set: String,
}

/// The values that templates read.
const VALUES: &str = "s: Some text
e: ''
num: 3
big: 1234567
f: 2.5
neg: -2.5
t: true
z: null
url: https://u:p@example.com:8443/a/b?q=1#f
ver: v1.22.3-rc.1+build.5
multi: |
  first
  second: x
l: [a, B, 1, 2.5, null, a]
ll: [[1, 2], [3]]
words: [beta, alpha, Gamma]
el: []
em: {}
m: {a: 1, b: two, c: {d: [x], e: null}, n: false}
n2: {a: 9, b: '', c: {d: [], f: 1}, z: null}
";

/// Templates that others call.
const HELPERS: &str = r#"{{- define "t.name" }}{{ .Values.s | lower | replace " " "-" }}{{ end }}
{{- define "t.dot" }}[{{ . }}]{{ end }}
{{- define "t.ctx" }}{{ .a }}-{{ .b.c }}{{ end }}
"#;

/// Random numbers (SplitMix64).
pub struct Random(u64);

impl Random {
    /// Numbers that a seed determines.
    pub fn new(seed: u64) -> Self {
        // neighbouring seeds must not give shifted sequences
        let mut random = Random(seed ^ 0x5851_F42D_4C95_7F2D);
        Random(random.next().wrapping_mul(0xD134_2543_DE82_EF95) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

const STRINGS: [&str; 44] = [
    r#""""#,
    r#""a""#,
    r#""Hello World""#,
    r#""foo-bar_baz""#,
    r#""HTTPServer2""#,
    r#""id_YB-x""#,
    r#""Bld4Floor3rd""#,
    r#""12""#,
    r#""1.50""#,
    r#""true""#,
    r#""null""#,
    r#""~""#,
    r#""0x1F""#,
    r#""0644""#,
    r#""1e3""#,
    r#""1_000""#,
    r#""12:30:45""#,
    r#""2001-01-02""#,
    r#""a: b""#,
    r#""- a""#,
    r##""#c""##,
    r#""x\ny\n""#,
    r#""x\n\ny""#,
    r#"" lead""#,
    r#""trail ""#,
    r#""tab\there""#,
    r#""it's""#,
    r#""\"q\"""#,
    r#""{a}""#,
    r#""[a, b]""#,
    r#""*a""#,
    r#""%""#,
    r#""@x""#,
    r#""größe""#,
    r#""日本""#,
    r#""a,b,,c""#,
    r#""k=v""#,
    r#""/usr/../lib/x.tar.gz""#,
    r#""{\"a\": [1, 2.0, null]}""#,
    r#""a: [1, x]\nb: {c: ~}""#,
    "`raw \\n text`",
    r#""the quick brown fox jumps over the lazy dog and then some more words follow so that the line is longer than eighty""#,
    ".Values.s",
    ".Values.multi",
];

const NUMBERS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "10",
    "1.5",
    "-2.5",
    "1e3",
    "1000000",
    "0x10",
    "017",
    "0b11",
    "1_000",
    ".5",
    "0x1p-2",
    "'a'",
    ".Values.num",
    ".Values.f",
    ".Values.neg",
    ".Values.big",
    "1e21",
    "0.1",
];

const LISTS: [&str; 13] = [
    "list",
    "(list 1 2 3)",
    r#"(list "b" "a" "c" "a")"#,
    r#"(list 1 "x" nil true)"#,
    ".Values.l",
    ".Values.ll",
    ".Values.words",
    ".Values.el",
    "(until 4)",
    r#"(splitList "," "x,y,z")"#,
    "(untilStep 3 12 4)",
    r#"(tuple "" 0 "z")"#,
    "(chunk 2 .Values.words)",
];

const MAPS: [&str; 12] = [
    "dict",
    r#"(dict "a" 1 "b" "x")"#,
    r#"(dict "k" (list 1 2) "m" (dict "z" nil "y" 2.5))"#,
    ".Values.m",
    ".Values.n2",
    ".Values.em",
    r#"(dict "a" nil "b" "" "c" false "d" 0)"#,
    r#"(dict "x: y" "1" "10" 1 "9" 2 "A" 3 "_" 4)"#,
    r#"(fromYaml "a: 1\nb: [x]")"#,
    r#"(urlParse .Values.url)"#,
    r#"(dict "multi\nline" "v\nw")"#,
    r#"(fromToml "a = 1\n[b]\nc = [1, 2.5]")"#,
];

const ANYTHING: [&str; 9] =
    [".Values.z", "nil", "true", "false", ".Values.t", ".Values.nope", ".Values.m.c", ".Values.e", "(.Values.l | len)"];

const VERSIONS: [&str; 9] =
    [r#""1.2.3""#, r#""v2.0""#, r#""0.0.3""#, r#""1.2.3-beta.2""#, r#""10""#, r#""x""#, ".Values.ver", r#""0.3.1""#, r#""1.2.3-01""#];

const FORMATS: [&str; 30] = [
    "%v", "%d", "%s", "%q", "%5d|", "%-6v|", "%06.2f", "%x", "%X", "%+v", "%#v", "%t", "%e", "%g", "%c", "%U", "%o", "%b", "%08d", "%+d",
    "%.3s", "%T", "%5t", "%%", "%6q", "% d", "%#x", "%.1f", "%3v", "%O",
];

const PATTERNS: [&str; 14] = [
    r#""[a-z]+""#,
    r#""a""#,
    r#""[0-9]""#,
    r#""(l+)o""#,
    r#""^H""#,
    r#""\\s+""#,
    r#""""#,
    r#""[[:upper:]]""#,
    r#""[^\\w]""#,
    r#""\\b""#,
    r#""x*""#,
    r#""(?i)HELLO""#,
    r#""[][]""#,
    r#""[-,]""#,
];

/// Functions with a letter for each argument: s text, n number, l list, m map, a anything, v version, c constraint, r pattern, f format, i small
/// integer, b truth.
const FUNCTIONS: [&str; 138] = [
    "upper s",
    "lower s",
    "title s",
    "untitle s",
    "swapcase s",
    "snakecase s",
    "camelcase s",
    "kebabcase s",
    "trim s",
    "nospace s",
    "initials s",
    "trimAll ss",
    "trimPrefix ss",
    "trimSuffix ss",
    "contains ss",
    "hasPrefix ss",
    "hasSuffix ss",
    "quote a",
    "squote a",
    "cat aa",
    "indent is",
    "nindent is",
    "replace sss",
    "plural ssi",
    "repeat is",
    "trunc is",
    "abbrev is",
    "abbrevboth iis",
    "split ss",
    "splitList ss",
    "splitn sis",
    "join sl",
    "join sa",
    "sortAlpha l",
    "toString a",
    "toStrings l",
    "wrap is",
    "wrapWith iss",
    "b64enc s",
    "b64dec s",
    "b32enc s",
    "b32dec s",
    "sha1sum s",
    "sha256sum s",
    "sha512sum s",
    "adler32sum s",
    "int a",
    "int64 a",
    "float64 a",
    "atoi s",
    "toDecimal a",
    "add nn",
    "add1 n",
    "sub nn",
    "mul nn",
    "div nn",
    "mod nn",
    "max nnn",
    "min nn",
    "addf nn",
    "subf nn",
    "mulf nn",
    "divf nn",
    "maxf nn",
    "minf nn",
    "ceil n",
    "floor n",
    "round ni",
    "until i",
    "untilStep iii",
    "seq ii",
    "list aaa",
    "append la",
    "prepend la",
    "first l",
    "last l",
    "rest l",
    "initial l",
    "reverse l",
    "uniq l",
    "compact l",
    "without laa",
    "has al",
    "slice lii",
    "concat ll",
    "chunk il",
    "dict sasa",
    "get ms",
    "set msa",
    "unset ms",
    "hasKey ms",
    "pluck smm",
    "pick mss",
    "omit mss",
    "merge mm",
    "mergeOverwrite mm",
    "deepCopy a",
    "dig ssam",
    "default aa",
    "empty a",
    "coalesce aaa",
    "all aa",
    "any aa",
    "ternary aab",
    "typeOf a",
    "kindOf a",
    "typeIs sa",
    "kindIs sa",
    "deepEqual aa",
    "toJson a",
    "toPrettyJson a",
    "toRawJson a",
    "toYaml a",
    "toYamlPretty a",
    "toToml m",
    "fromJson s",
    "fromJsonArray s",
    "fromYaml s",
    "fromYamlArray s",
    "semverCompare cv",
    "semver v",
    "regexMatch rs",
    "regexFind rs",
    "regexFindAll rsi",
    "regexReplaceAll rss",
    "regexReplaceAllLiteral rss",
    "regexSplit rsi",
    "regexQuoteMeta s",
    "printf fa",
    "printf faa",
    "print aa",
    "println aa",
    "html s",
    "js s",
    "urlquery s",
    "len a",
    "index li",
    "index ms",
];

/// Comparisons and logic, which give a truth.
const TRUTHS: [&str; 12] =
    ["eq aa", "ne aa", "lt nn", "le nn", "gt ss", "ge nn", "not a", "and aa", "or aa", "empty a", "hasKey ms", "contains ss"];

/// Makes an expression for an argument of a kind.
fn argument(random: &mut Random, kind: char, depth: usize) -> String {
    // now and then a value of another type
    let kind = if random.one_in(25) { ['s', 'n', 'l', 'm', 'a'][random.below(5)] } else { kind };
    if depth > 0 && random.one_in(3) {
        let found = match kind {
            's' => Some(
                ["upper s", "trim s", "quote a", "toString a", "replace sss", "toJson a", "join sl", "printf fa", "b64enc s"].as_slice(),
            ),
            'n' => Some(["add nn", "int a", "float64 a", "mul nn", "len a", "round ni"].as_slice()),
            'l' => Some(["append la", "rest l", "splitList ss", "uniq l", "list aaa", "concat ll", "regexFindAll rsi"].as_slice()),
            'm' => Some(["dict sasa", "merge mm", "pick mss", "set msa", "omit mss", "fromJson s"].as_slice()),
            'b' => Some(TRUTHS.as_slice()),
            'a' => Some(FUNCTIONS.as_slice()),
            _ => None,
        };
        if let Some(functions) = found {
            let function = random.of(functions);
            return format!("({})", call(random, function, depth - 1));
        }
    }
    match kind {
        's' => random.of(&STRINGS).to_owned(),
        'n' => random.of(&NUMBERS).to_owned(),
        'i' => ["0", "1", "2", "3", "5", "8", "-1", "-2", "40"][random.below(9)].to_owned(),
        'l' => random.of(&LISTS).to_owned(),
        'm' => random.of(&MAPS).to_owned(),
        'b' => ["true", "false", ".Values.t"][random.below(3)].to_owned(),
        'v' => random.of(&VERSIONS).to_owned(),
        'c' => constraint(random),
        'r' => random.of(&PATTERNS).to_owned(),
        'f' => format!("{:?}", format!("{}{}", random.of(&FORMATS), if random.one_in(3) { random.of(&FORMATS) } else { "" })),
        _ => {
            let kind = ['s', 'n', 'l', 'm', 'x', 'x'][random.below(6)];
            if kind == 'x' { random.of(&ANYTHING).to_owned() } else { argument(random, kind, depth) }
        }
    }
}

fn constraint(random: &mut Random) -> String {
    let part = |random: &mut Random| {
        let operator = ["", "=", "!=", ">", "<", ">=", "<=", "~", "^", "=<", "~>"][random.below(11)];
        let blank = if random.one_in(4) { " " } else { "" };
        let version =
            ["1", "1.2", "1.2.3", "1.x", "*", "x", "0.3", "0", "0.0.3", "2.0.0-0", "1.2.3-alpha", "v1.2", "1.2.*"][random.below(13)];
        format!("{operator}{blank}{version}")
    };
    let mut text = part(random);
    for _ in 0..random.below(3) {
        text.push_str([" ", ", ", " || ", " - "][random.below(4)]);
        text.push_str(&part(random));
    }
    format!("{text:?}")
}

fn call(random: &mut Random, function: &str, depth: usize) -> String {
    let (name, kinds) = function.split_once(' ').unwrap_or((function, ""));
    let mut arguments: Vec<String> = kinds.chars().map(|kind| argument(random, kind, depth)).collect();
    match arguments.pop() {
        // piped, where it is no variable
        Some(last) if random.one_in(3) && last != "nil" => format!("{last} | {}", [vec![name.to_owned()], arguments].concat().join(" ")),
        Some(last) => [vec![name.to_owned()], arguments, vec![last]].concat().join(" "),
        None => name.to_owned(),
    }
}

fn expression(random: &mut Random) -> String {
    let function = random.of(&FUNCTIONS);
    call(random, function, 2)
}

/// A piece of a template: an action, or a branch with more pieces.
fn piece(random: &mut Random, depth: usize) -> String {
    let (open, close) = (["{{", "{{-", "{{"][random.below(3)], ["}}", "-}}", "}}"][random.below(3)]);
    let end = "{{ end }}";
    if depth == 0 || random.one_in(2) {
        return format!("{open} {} {close}", expression(random));
    }
    let inner = |random: &mut Random| piece(random, depth - 1);
    match random.below(9) {
        0 => {
            let condition = argument(random, 'b', 1);
            format!("{open} if {condition} {close}{}{{{{ else }}}} {}{end}", inner(random), inner(random))
        }
        1 => {
            let condition = argument(random, 'a', 1);
            format!("{open} with {condition} {close}{{{{ . }}}}{{{{ else with .Values.s }}}}{{{{ . }}}}{end}")
        }
        2 => {
            let kind = ['l', 'm'][random.below(2)];
            let over = argument(random, kind, 1);
            format!("{open} range $i, $e := {over} {close}<{{{{ $i }}}}={{{{ $e }}}}>{{{{ else }}}}none{end}")
        }
        3 => {
            let over = argument(random, 'l', 1);
            let word = ["break", "continue"][random.below(2)];
            format!("{{{{ range {over} }}}}{{{{ if eq (toString .) \"a\" }}}}{{{{ {word} }}}}{{{{ end }}}}{{{{ . }}}};{end}")
        }
        4 => {
            let (first, second) = (argument(random, 'a', 1), argument(random, 'a', 1));
            format!("{{{{ $x := {first} }}}}{open} if true {close}{{{{ $x = {second} }}}}{end}{{{{ $x }}}}")
                .replace(":= nil", ":= 1")
                .replace("= nil", "= 1")
        }
        5 => format!("{{{{ include \"t.name\" . }}}}/{{{{ include \"t.dot\" {} }}}}", argument(random, 'a', 1)),
        6 => format!("{{{{ template \"t.ctx\" {} }}}}", argument(random, 'm', 1)),
        7 => {
            let inside = format!("{{{{ {} }}}}", expression(random));
            format!("{{{{ tpl {} . }}}}", inside.contains('`').then(|| "\"x\"".to_owned()).unwrap_or(format!("`{inside}`")))
        }
        _ => format!("{{{{/* a comment */}}}} text {open} {} {close}", argument(random, 'a', 2)),
    }
}

/// The chart of one generated template.
pub fn template_case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let body: String = (0..=random.below(2)).map(|_| piece(&mut random, 2)).collect();
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n".to_owned()),
        ("values.yaml", VALUES.to_owned()),
        ("templates/_h.tpl", HELPERS.to_owned()),
        ("templates/a.yaml", format!("{{{{- define \"o\" }}}}{body}{{{{ end -}}}}\nx: {{{{ include \"o\" . | toJson }}}}\n")),
    ];
    Case { files: files.map(|(path, text)| (path.to_owned(), text)).into(), values: String::new(), set: String::new() }
}

const SCALARS: [&str; 38] = [
    "1",
    "-1",
    "2.5",
    "1000000",
    "1e3",
    "0x1F",
    "0o17",
    "017",
    "1_000",
    "0b11",
    "true",
    "False",
    "yes",
    "off",
    "null",
    "~",
    "''",
    "text",
    "'it''s'",
    r#""q\tq\u00e9""#,
    "1:30",
    "12:30:45",
    "2001-01-02",
    "2001-12-14t21:59:43.10-05:00",
    "1.",
    ".5",
    "0.1",
    "!!str 12",
    "!!int '3'",
    "[]",
    "{}",
    "[1, a, null]",
    "{a: 1, b: null}",
    "a b",
    "x#y",
    "9007199254740993",
    "1.0",
    "|\n  block\n   text\n",
];

/// A mapping of values in YAML at an indentation.
fn values(random: &mut Random, indent: usize, depth: usize, names: &[&str]) -> String {
    let pad = " ".repeat(indent);
    let mut out = String::new();
    let mut used: Vec<&str> = Vec::new();
    for _ in 0..=random.below(4) {
        let name = random.of(names);
        if used.contains(&name) {
            continue;
        }
        used.push(name);
        if depth > 0 && (random.one_in(2) || ["db", "web", "global", "exports", "alias"].contains(&name)) {
            out.push_str(&format!("{pad}{name}:\n{}", values(random, indent + 2, depth - 1, names)));
        } else {
            let scalar = random.of(&SCALARS).replace('\n', &format!("\n{pad}"));
            out.push_str(&format!("{pad}{name}: {}\n", scalar.trim_end()));
        }
    }
    out
}

const NAMES: [&str; 9] = ["a", "b", "c", "db", "web", "global", "exports", "tags", "alias"];

const DUMP: &str = "v: {{ .Values | toJson }}\nc: {{ .Chart.Name }} {{ .Chart.IsRoot }}\ns: {{ keys .Subcharts | sortAlpha | toJson }}\n";

/// A chart with charts inside, values at every level and those of a user.
pub fn chart_case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let mut files = Files::new();
    let mut listed = String::new();
    for name in ["db", "web"].into_iter().take(random.below(3)) {
        let version = ["1.0.0", "0.3.1", "2.0.0-rc.1"][random.below(3)];
        files.insert(format!("charts/{name}/Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: {version}\n"));
        files.insert(format!("charts/{name}/values.yaml"), values(&mut random, 0, 2, &NAMES));
        files.insert(format!("charts/{name}/templates/a.yaml"), DUMP.to_owned());
        if random.one_in(3) {
            files.insert(format!("charts/{name}/charts/c/Chart.yaml"), "apiVersion: v2\nname: c\nversion: 1.0.0\n".to_owned());
            files.insert(format!("charts/{name}/charts/c/values.yaml"), values(&mut random, 0, 1, &NAMES));
            files.insert(format!("charts/{name}/charts/c/templates/a.yaml"), DUMP.to_owned());
        }
        if !random.one_in(3) {
            let range = ["1.0.0", "*", "^1", ">0.1", ">=0-0"][random.below(5)];
            listed.push_str(&format!("- name: {name}\n  version: \"{range}\"\n"));
            if random.one_in(3) {
                listed.push_str(&format!("  alias: {}\n", ["alias", "c"][random.below(2)]));
            }
            if random.one_in(3) {
                listed.push_str(&format!("  condition: {}\n", ["a", "db.a", "web.b,a", "tags.c", "global.a"][random.below(5)]));
            }
            if random.one_in(4) {
                listed.push_str("  tags: [a, b]\n");
            }
            if random.one_in(2) {
                listed.push_str("  import-values:\n");
                for _ in 0..=random.below(2) {
                    let parent = ["a", ".", "db.b", "exports"][random.below(4)];
                    let child = ["a", "exports", "exports.a", "db"][random.below(4)];
                    listed.push_str(&match random.below(2) {
                        0 => format!("  - {}\n", ["a", "b", "db"][random.below(3)]),
                        _ => format!("  - {{child: {child}, parent: {parent}}}\n"),
                    });
                }
            }
        }
    }
    let dependencies = if listed.is_empty() { String::new() } else { format!("dependencies:\n{listed}") };
    files.insert("Chart.yaml".to_owned(), format!("apiVersion: v2\nname: top\nversion: 1.0.0\n{dependencies}"));
    let mut own = values(&mut random, 0, 3, &NAMES);
    if random.one_in(4) {
        own.push_str(
            "base: &base {a: 1, b: [x], k: null}\nmerged:\n  a: 2\n  <<: *base\n  b: 3\ntwice: {<<: [*base, {a: 5, z: 6}], c: 1}\n",
        );
    }
    if random.one_in(6) {
        own = own.replace('\n', "\r\n");
    }
    let mark = if random.one_in(6) { "\u{feff}" } else { "" };
    files.insert("values.yaml".to_owned(), format!("{mark}{own}"));
    files.insert("templates/a.yaml".to_owned(), format!("{mark}{DUMP}y: |\n  {{{{- toYaml .Values | nindent 2 }}}}\n"));
    let kinds = ["Pod", "Service", "Zebra", "ConfigMap", "Namespace", "MutatingWebhookConfiguration", "Alpha"];
    let mut objects = String::new();
    for number in 0..random.below(4) {
        let hook = if random.one_in(4) { ", annotations: {helm.sh/hook: 'pre-install,post-install'}" } else { "" };
        objects.push_str(&format!("---\nkind: {}\nmetadata: {{name: o{number}{hook}}}\n", random.of(&kinds)));
    }
    files.insert("templates/o.yaml".to_owned(), objects);
    let user = if random.one_in(2) { values(&mut random, 0, 3, &NAMES) } else { String::new() };
    let set = match random.below(4) {
        0 => ["a=1000000", "db.a=null", "b[1].c=x,c={1,y}", "global.a=true,web.c=1.5", "a=0x1F,b=007", "exports.a.b=2"][random.below(6)]
            .to_owned(),
        _ => String::new(),
    };
    Case { files, values: user, set }
}
