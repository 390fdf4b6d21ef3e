//! The architecture as a test: what pure files may not name, and how every file is written.
//!
//! A plain line scanner, because a rule that a reader can check by eye is worth more than one that
//! needs a parser. Comments, strings and test modules are blanked first where a rule is about
//! code. Each rule is a function from a file to its breaches, and is held against a planted one.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines a function may have, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
/// The same in a test, where a table of cases may be long.
const TEST_FUNCTION_LINES: usize = 120;
const COLUMNS: usize = 100;

/// Files that decide and do nothing else.
const PURE: &[&str] = &[
    "src/gateway/",
    "src/outbox.rs",
    "src/record.rs",
    "src/time/quality.rs",
    "src/store/clocks.rs",
    "src/store/thin.rs",
    "src/site.rs",
    "src/site/",
    "src/profile",
    "src/field/plan.rs",
    "src/field/vector.rs",
    "src/field/breaker.rs",
    "src/field/budget.rs",
    "src/field/decode",
    "src/field/write.rs",
    "src/field/orders.rs",
    "src/field/places.rs",
    "src/field/rtu.rs",
    "src/field/pace.rs",
    "src/probe/ask.rs",
    "src/probe/fit.rs",
    "src/probe/scan.rs",
    "src/probe/show.rs",
    "src/probe/times.rs",
    "src/field/policy.rs",
    "src/field/split.rs",
    "src/field/agenda.rs",
    "src/field/agenda/",
    "src/config/file.rs",
    "src/config/check.rs",
    "src/config/device",
    "src/config/writing.rs",
    "src/config/weave/",
];

/// What a pure file may not name: clocks, threads, locks, IO, and maps whose order is random.
const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "Instant",
    "SystemTime",
    "Clock",
    "clock_gettime",
    "async",
    "await",
    "Mutex",
    "RwLock",
    "HashMap",
    "HashSet",
    "std::net",
    "std::thread",
    "thread::",
    "std::env",
    "getrandom",
    "println!",
];

/// The one pure file with a hash map: it is only asked by key, so its random order is never seen.
const HASH_HOME: &str = "src/gateway/lease.rs";

/// The one file that may say `unsafe`: fences around the store.
const UNSAFE_HOME: &str = "src/store/barrier.rs";

/// Work left undone, and tests that do not run.
const UNDONE: &[&str] =
    &["todo!", "unimplemented!", "dbg!", "TODO", "FIXME", "XXX", "#[ignore", "HACK"];

/// Folders of a developer's machine.
const MACHINE_PATHS: &[&str] = &["/work/", "/root/", "/home/", "/Users/"];

struct File {
    path: String,
    text: String,
}

/// A breach: where, and what is wrong.
type Breach = String;

fn code_only(text: &str) -> String {
    blank(text, true)
}

/// Blanks comments, and strings too where asked, keeping lines and columns as they were.
fn blank(text: &str, strings: bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = token_end(&chars, at);
        let token = &chars[at..end];
        let hide = match token {
            ['/', '/' | '*', ..] => true,
            ['"', ..] | ['r', '"' | '#', ..] | ['b', '"', ..] | ['\'', _, _, ..] => strings,
            _ => false,
        };
        out.extend(token.iter().map(|c| if hide && *c != '\n' { ' ' } else { *c }));
        at = end;
    }
    out
}

/// Where the token that begins at `at` ends: a comment, a string, a character, or one char.
fn token_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let until = |from: usize, found: &dyn Fn(&[char]) -> bool, length: usize| {
        (from..rest.len()).find(|ix| found(&rest[*ix..])).map_or(chars.len(), |ix| at + ix + length)
    };
    match rest {
        ['/', '/', ..] => until(0, &|r| r[0] == '\n', 0),
        ['/', '*', ..] => until(2, &|r| r.starts_with(&['*', '/']), 2),
        ['"', ..] => string_end(chars, at),
        ['b', '"', ..] if !word_before(chars, at) => string_end(chars, at + 1),
        ['r', '"' | '#', ..] if !word_before(chars, at) => raw_end(chars, at),
        ['\'', '\\', ..] => until(3, &|r| r[0] == '\'', 1),
        ['\'', _, '\'', ..] => at + 3,
        _ => at + 1,
    }
}

fn word_before(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

fn string_end(chars: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at + 1; // a raw identifier, such as r#type
    }
    let mut close = vec!['"'];
    close.extend(std::iter::repeat_n('#', hashes));
    let from = at + 2 + hashes;
    (from..chars.len())
        .find(|ix| chars[*ix..].starts_with(&close))
        .map_or(chars.len(), |ix| ix + close.len())
}

/// What stands before the file's test module, which by our custom is its last item.
fn before_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod tests").next().unwrap_or(code)
}

fn has_word(line: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        let (head, tail) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        edge(head) && (edge(tail) || !word.ends_with(|c: char| c.is_alphanumeric()))
    })
}

fn each_line(file: &File, text: &str, wrong: impl Fn(&str) -> Option<String>) -> Vec<Breach> {
    let lines = text.lines().enumerate();
    lines
        .filter_map(|(ix, line)| Some(format!("{}:{}: {}", file.path, ix + 1, wrong(line)?)))
        .collect()
}

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

/// Files that hold nothing but tests and what tests stand on.
fn is_test_file(file: &File) -> bool {
    let names = ["/tests.rs", "/testing.rs", "/history.rs", "/liars.rs", "/fair.rs"];
    let ours = file.path.starts_with("tests/") || file.path.contains("/tests/");
    ours || names.iter().any(|name| file.path.ends_with(name))
}

fn pure_files_name_nothing_impure(file: &File) -> Vec<Breach> {
    if !PURE.iter().any(|pure| file.path.starts_with(pure)) || is_test_file(file) {
        return Vec::new();
    }
    let code = code_only(&file.text);
    each_line(file, before_tests(&code), |line| {
        // An address can be parsed without a network.
        let line = line.replace("std::net::SocketAddr", "").replace("std::net::IpAddr", "");
        let hash_home = |word: &str| word == "HashMap" && file.path == HASH_HOME;
        let mut impure = IMPURE.iter().filter(|word| !hash_home(word));
        let word = impure.find(|word| has_word(&line, word))?;
        Some(format!("a pure file names {word}"))
    })
}

fn unsafe_has_one_home(file: &File) -> Vec<Breach> {
    if !is_rust(file) || file.path == UNSAFE_HOME {
        return Vec::new();
    }
    each_line(file, &code_only(&file.text), |line| {
        has_word(line, "unsafe").then(|| format!("unsafe outside {UNSAFE_HOME}"))
    })
}

fn every_file_says_what_it_is(file: &File) -> Vec<Breach> {
    if !is_rust(file) || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}:1: does not begin with a //! header", file.path)]
}

/// Prose, dependencies and a site's tables may run on: a row or a link cannot be broken.
fn lines_fit(file: &File) -> Vec<Breach> {
    if file.path.ends_with(".md") || file.path.ends_with(".toml") {
        return Vec::new();
    }
    each_line(file, &file.text, |line| {
        let columns = line.chars().count();
        (columns > COLUMNS).then(|| format!("{columns} columns, above {COLUMNS}"))
    })
}

fn nothing_is_left_undone(file: &File) -> Vec<Breach> {
    // This file must name what it forbids.
    if file.path == "tests/tidy.rs" {
        return Vec::new();
    }
    each_line(file, &file.text, |line| {
        let word = UNDONE.iter().find(|word| line.contains(*word))?;
        Some(format!("says {word}"))
    })
}

fn no_path_of_a_machine(file: &File) -> Vec<Breach> {
    if file.path == "tests/tidy.rs" {
        return Vec::new();
    }
    each_line(file, &file.text, |line| {
        let path = MACHINE_PATHS.iter().find(|path| line.contains(*path))?;
        Some(format!("names the machine's {path}"))
    })
}

/// Registers are data: outside tests, the field names no address in hexadecimal or as a constant.
fn registers_are_data(file: &File) -> Vec<Breach> {
    if !file.path.starts_with("src/field/") {
        return Vec::new();
    }
    let code = code_only(&file.text);
    each_line(file, before_tests(&code), |line| {
        let digits = line
            .split("0x")
            .skip(1)
            .map(|tail| tail.chars().take_while(|c| c.is_ascii_hexdigit() || *c == '_').count());
        // Masks and exception codes have one or two digits, a register's address three or four.
        let address = digits.into_iter().any(|count| count == 3 || count == 4);
        let named = ["BASE", "ADDRESS", "REGISTER"].iter().any(|name| {
            line.trim_start().strip_prefix("pub ").unwrap_or(line.trim_start()).starts_with("const")
                && line.contains("u16")
                && line.contains(name)
        });
        (address || named).then(|| "a register address stands in the code".to_owned())
    })
}

fn functions_are_short(file: &File) -> Vec<Breach> {
    if !is_rust(file) {
        return Vec::new();
    }
    let code = code_only(&file.text);
    let tests_from = before_tests(&code).lines().count();
    let lines: Vec<&str> = code.lines().collect();
    let mut breaches = Vec::new();
    for (ix, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let most = if is_test_file(file) || ix >= tests_from {
            TEST_FUNCTION_LINES
        } else {
            FUNCTION_LINES
        };
        let length = function_length(&lines[ix..]);
        if length > most {
            let name = line.trim();
            breaches.push(format!(
                "{}:{}: {length} lines, above {most}: {name}",
                file.path,
                ix + 1
            ));
        }
    }
    breaches
}

fn begins_function(line: &str) -> bool {
    let line = line.trim_start();
    let modifiers =
        ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe ", "extern "];
    let bare = modifiers.iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    bare.starts_with("fn ")
}

/// Lines from a function's head to the brace that closes it; 1 for a head without a body.
fn function_length(lines: &[&str]) -> usize {
    let (mut depth, mut brackets) = (0_usize, 0_i32);
    for (ix, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                '{' => depth += 1,
                '}' if depth == 1 => return ix + 1,
                '}' => depth = depth.saturating_sub(1),
                // A `;` inside `[u8; 4]` is not the end of a head.
                ';' if depth == 0 && brackets == 0 => return ix + 1,
                _ => (),
            }
        }
    }
    lines.len()
}

type Rule = fn(&File) -> Vec<Breach>;

const RULES: &[Rule] = &[
    pure_files_name_nothing_impure,
    unsafe_has_one_home,
    every_file_says_what_it_is,
    lines_fit,
    nothing_is_left_undone,
    no_path_of_a_machine,
    registers_are_data,
    functions_are_short,
];

/// What people wrote: code, configuration, units, prose. Not locks and not pictures.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "config", "systemd"] {
        gather(root, &root.join(folder), &mut files);
    }
    for name in ["README.md", "Cargo.toml"] {
        read(root, &root.join(name), &mut files);
    }
    files
}

fn gather(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather(root, &path, files);
        } else {
            read(root, &path, files);
        }
    }
}

fn read(root: &Path, path: &Path, files: &mut Vec<File>) {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
    // Scripts have no ending; a page or a picture is judged by eye.
    let ours = ["rs", "toml", "md", "py", "c", "service", "conf", ""].contains(&ending);
    if let (true, Ok(text)) = (ours, fs::read_to_string(path)) {
        let path = path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace('\\', "/");
        files.push(File { path, text });
    }
}

#[test]
fn the_tree_keeps_its_rules() {
    let files = tree();
    assert!(files.len() > 10, "only {} files were found", files.len());
    let breaches: Vec<Breach> =
        files.iter().flat_map(|file| RULES.iter().flat_map(move |rule| rule(file))).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

fn long_function(lines: usize) -> String {
    format!("//! x\nfn long(a: [u8; 4]) {{\n{}}}\nfn short() {{}}\n", "    a();\n".repeat(lines))
}

#[test]
fn every_rule_sees_a_planted_breach() {
    let planted: Vec<(Rule, File)> = vec![
        (pure_files_name_nothing_impure, file("src/gateway/x.rs", "use tokio::time;")),
        (pure_files_name_nothing_impure, file("src/outbox.rs", "let t = Instant::now();")),
        (pure_files_name_nothing_impure, file("src/field/plan.rs", "async fn x() {}")),
        (pure_files_name_nothing_impure, file("src/site.rs", "use std::net::TcpStream;")),
        (pure_files_name_nothing_impure, file("src/record.rs", "x: HashMap<u8, u8>,")),
        (pure_files_name_nothing_impure, file("src/gateway/a/b.rs", "let x = fs(std::fs::read);")),
        (unsafe_has_one_home, file("src/owner.rs", "unsafe { x() }")),
        (every_file_says_what_it_is, file("src/owner.rs", "use std::fmt;")),
        (lines_fit, file("src/owner.rs", &"x".repeat(COLUMNS + 1))),
        (nothing_is_left_undone, file("src/owner.rs", "fn x() { todo!() }")),
        (nothing_is_left_undone, file("tests/a.rs", "#[ignore = \"later\"]")),
        (nothing_is_left_undone, file("src/owner.rs", "// FIXME: wrong")),
        (no_path_of_a_machine, file("README.md", "see /root/x")),
        (no_path_of_a_machine, file("config/a.toml", "path = \"/work/x\"")),
        (registers_are_data, file("src/field/line.rs", "read(0x9C41, 4)")),
        (registers_are_data, file("src/field/line.rs", "const COUNTER_BASE: u16 = 100;")),
        (functions_are_short, file("src/owner.rs", &long_function(FUNCTION_LINES))),
        (functions_are_short, file("tests/a.rs", &long_function(TEST_FUNCTION_LINES))),
    ];
    for (ix, (rule, file)) in planted.iter().enumerate() {
        assert_eq!(rule(file).len(), 1, "breach {ix} in {}: {:?}", file.path, rule(file));
    }
    let broken: Vec<usize> = (0..RULES.len())
        .filter(|ix| !planted.iter().any(|(rule, _)| std::ptr::fn_addr_eq(*rule, RULES[*ix])))
        .collect();
    assert!(broken.is_empty(), "rules {broken:?} have no planted breach");
}

#[test]
fn what_is_right_passes() {
    let right: Vec<(Rule, File)> = vec![
        (pure_files_name_nothing_impure, file("src/gateway/x.rs", "//! No tokio, no clock.\n")),
        (pure_files_name_nothing_impure, file("src/gateway/x.rs", "let x = \"tokio\";")),
        (pure_files_name_nothing_impure, file("src/uplink.rs", "use tokio::time;")),
        (pure_files_name_nothing_impure, file("src/config/check.rs", "std::net::SocketAddr")),
        (pure_files_name_nothing_impure, file("src/gateway/x.rs", "let asynchronous = 1;")),
        (unsafe_has_one_home, file(UNSAFE_HOME, "unsafe { x() }")),
        (unsafe_has_one_home, file("src/lib.rs", "#![deny(unsafe_code)]")),
        (lines_fit, file("src/owner.rs", &"ü".repeat(COLUMNS))),
        (registers_are_data, file("src/field/breaker.rs", "0x0B => Silent,")),
        (functions_are_short, file("src/owner.rs", &long_function(FUNCTION_LINES - 2))),
        (functions_are_short, file("tests/a.rs", &long_function(TEST_FUNCTION_LINES - 2))),
    ];
    for (ix, (rule, file)) in right.iter().enumerate() {
        assert!(rule(file).is_empty(), "case {ix}: {:?}", rule(file));
    }
}

#[test]
fn braces_in_strings_and_comments_do_not_count() {
    let tricky = "fn x() {\n    a('{', \"}}{\", r#\"{\"#); // {\n    /* { */ b('\\'', '}');\n}\n";
    let code = code_only(tricky);
    assert_eq!(function_length(&code.lines().collect::<Vec<_>>()), 4, "{code}");
    assert_eq!(code.lines().count(), tricky.lines().count());
}
