//! Configurations: the examples are right, the wrong ones are told why, and no key is passed over.

mod maps;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use edgeway_tests::{Finished, Gateway, program};
use tempfile::TempDir;

use self::maps::{Keys, Map};

/// Enough for HS256.
const SECRET: &str = "a-secret-of-enough-bytes-for-everybody";

#[test]
fn every_example_is_valid_and_nothing_in_it_is_warned_of() {
    for file in examples() {
        let checked = check(&conf(), &file);
        assert_eq!(checked.code, Some(0), "{}", checked.log);
        assert_eq!(checked.log, "", "{}", file.display());
    }
}

#[test]
fn more_endpoints_than_can_be_numbered_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let endpoints = |count: u32| -> Vec<_> {
        let number = |of: u32| (of / 256, of % 256);
        let address = |(high, low)| format!("10.0.{high}.{low}:80");
        (0..count).map(number).map(address).collect()
    };
    for (count, code) in [(10_000, 0), (10_001, 2)] {
        let text = format!(
            "listeners: {{ http: {{ bind: '127.0.0.1:0' }} }}\n\
             upstreams: {{ many: {{ endpoints: {:?} }} }}\n\
             routes: [ {{ upstream: many }} ]\n",
            endpoints(count)
        );
        fs::write(folder.path().join("many.yaml"), text).unwrap();
        let checked = check(folder.path(), Path::new("many.yaml"));
        assert_eq!(checked.code, Some(code), "{}", checked.log);
    }
}

#[test]
fn the_configurations_of_the_containers_are_valid() {
    let demos = conf().join("../compose");
    let checked = check(&demos, Path::new("tutorial/conf/edgeway.yaml"));
    assert_eq!((checked.code, &*checked.log), (Some(0), ""));
}

#[test]
fn every_example_says_first_what_it_is_for() {
    for file in examples() {
        let text = fs::read_to_string(conf().join(&file)).unwrap();
        let comment = text.lines().take_while(|line| line.starts_with("# "));
        assert!(comment.count() >= 1, "{}", file.display());
    }
}

#[test]
fn the_annotated_configuration_is_right_with_all_that_is_commented_out() {
    let folder = copy_of(&conf());
    let text = fs::read_to_string(conf().join("edgeway.yaml")).unwrap();
    fs::write(folder.path().join("edgeway.yaml"), uncommented(&text)).unwrap();
    let checked = check(folder.path(), Path::new("edgeway.yaml"));
    assert_eq!((checked.code, &*checked.log), (Some(0), ""));
}

#[test]
fn the_annotated_configuration_names_every_key_of_the_gateway() {
    let text = fs::read_to_string(conf().join("edgeway.yaml")).unwrap();
    let known: BTreeSet<_> = files()
        .iter()
        .flat_map(|file| keys_known_in(file))
        .collect();
    assert!(known.len() > 40, "{known:?}");
    for key in known {
        assert!(
            text.contains(&format!("{key}:")),
            "`{key}` is not in conf/edgeway.yaml"
        );
    }
}

/// `tests/config/bad/NAME.yaml` is a wrong configuration, `NAME.txt` all that `edgeway check` says of it
/// on standard error. `UPDATE_GOLDENS=1` writes what is said now: read it before you commit it.
#[test]
fn what_is_said_of_a_wrong_configuration_is_what_was_agreed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let update = env::var_os("UPDATE_GOLDENS").is_some();
    let mut different = Vec::new();
    for name in yaml_in(&folder.join("bad")) {
        let file = Path::new("bad").join(&name);
        let golden = folder.join(&file).with_extension("txt");
        let said = check(&folder, &file)
            .log
            .replace(folder.to_str().unwrap(), "FOLDER");
        if update {
            fs::write(&golden, &said).unwrap();
        }
        if fs::read_to_string(&golden).unwrap_or_default() != said {
            different.push(format!("--- {} ---\n{said}", golden.display()));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn what_is_wrong_is_refused_and_what_is_doubtful_is_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in yaml_in(&folder.join("bad")) {
        let checked = check(&folder, &Path::new("bad").join(&name));
        let refused = checked.log.contains("error: ");
        let code = if refused { 2 } else { 0 };
        assert_eq!(
            checked.code,
            Some(code),
            "{}: {}",
            name.display(),
            checked.log
        );
        assert!(
            refused || checked.log.contains("warning: "),
            "{}",
            name.display()
        );
    }
}

#[test]
fn an_unknown_key_is_refused_in_every_map_of_every_example() {
    let mut seen = 0;
    for file in files() {
        let text = fs::read_to_string(conf().join(&file)).unwrap();
        for map in maps::of(&text) {
            if map.keys() != Keys::Free {
                refuses_a_stray_key(&file, &text, &map);
                seen += 1;
            }
        }
    }
    assert!(seen > 150, "only {seen} maps");
}

/// #108
#[test]
fn a_site_is_served_when_its_file_is_there_and_the_configuration_is_read_again() {
    let site = |name: &str| {
        format!("routes: [{{ match: {{ host: {name}.test }}, respond: {{ text: {name} }} }}]")
    };
    let gateway = Gateway::setup(
        "
        include: [sites-enabled/*.yaml]
        routes: [{ respond: { status: 404, text: no such site } }]
        ",
    )
    .file("sites-enabled/blog.yaml", site("blog"))
    .start();
    let asked = |host: &str| {
        gateway
            .request("GET", "/")
            .host(host)
            .send()
            .text()
            .to_owned()
    };
    assert_eq!(
        [asked("blog.test"), asked("shop.test")],
        ["blog", "no such site"]
    );

    gateway.write("sites-enabled/shop.yaml", site("shop"));
    assert_eq!(
        asked("shop.test"),
        "no such site",
        "nobody has said that it is complete"
    );
    assert!(gateway.reload_files());
    assert_eq!([asked("blog.test"), asked("shop.test")], ["blog", "shop"]);

    gateway.write("sites-enabled/shop.yaml", "routes: [{ upstream: shop }]");
    assert!(!gateway.reload_files());
    gateway.wait_for_log("/sites-enabled/shop.yaml:1:22");
    assert_eq!(asked("shop.test"), "shop");
}

/// Puts a key into one map of one file, and expects that it is named, in its place.
fn refuses_a_stray_key(file: &Path, text: &str, map: &Map) {
    let folder = copy_of(&conf());
    let changed = map.with_entry(text, "stray: here");
    fs::write(folder.path().join(file), &changed).unwrap();
    let checked = check(folder.path(), &main_of(file));
    let name = file.file_name().unwrap().to_str().unwrap();
    let place = format!("{name}:{}:{}", map.line, map.culprit());
    let what = match map.keys() {
        // Where one name is expected, two are the mistake.
        Keys::Choice => " a map with 2 keys",
        Keys::Known | Keys::Free => " `stray`",
    };
    let told = checked.log.split("\n\n").any(|problem| {
        let mut lines = problem.lines();
        let message = lines
            .next()
            .is_some_and(|line| line.starts_with("error: ") && line.contains(what));
        message && lines.next().is_some_and(|line| line.ends_with(&place))
    });
    assert!(
        told,
        "{} {place} ({}):\n{changed}\n{}",
        file.display(),
        map.path,
        checked.log
    );
    assert_eq!(checked.code, Some(2));
}

/// What the gateway says that it knows in the maps of a file, those of filters left out.
fn keys_known_in(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(conf().join(file)).unwrap();
    let folder = copy_of(&conf());
    let mut known = BTreeSet::new();
    for map in maps::of(&text)
        .iter()
        .filter(|map| map.keys() == Keys::Known && !map.path.contains("filters[]"))
    {
        fs::write(
            folder.path().join(file),
            map.with_entry(&text, "stray: here"),
        )
        .unwrap();
        let said = check(folder.path(), &main_of(file)).log;
        let help = said
            .lines()
            .filter_map(|line| line.split_once("= help: expected"));
        known.extend(
            help.flat_map(|(_, list)| list.split('`').skip(1).step_by(2).map(str::to_owned)),
        );
    }
    known
}

/// Takes away each `#` that stands right before a key.
fn uncommented(text: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(rest) if !rest.is_empty() && !rest.starts_with(' ') => line.replacen('#', "", 1),
        _ => line.to_owned(),
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

fn check(folder: &Path, file: &Path) -> Finished {
    let mut command = Command::new(program("edgeway"));
    command.arg("check").arg("-c").arg(file).current_dir(folder);
    let output = command
        .env_clear()
        .env("EDGEWAY_JWT_SECRET", SECRET)
        .env("CSRF_SECRET", SECRET)
        .env("OIDC_CLIENT_SECRET", SECRET)
        .env("OIDC_COOKIE_SECRET", SECRET)
        .env("STICKY_SECRET", SECRET)
        .output()
        .unwrap();
    Finished {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).unwrap(),
        log: String::from_utf8(output.stderr).unwrap(),
    }
}

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../conf")
        .canonicalize()
        .unwrap()
}

/// The configurations that can be checked by themselves, as paths in `conf`.
fn examples() -> Vec<PathBuf> {
    let examples = yaml_in(&conf().join("examples"));
    let in_folder = examples.iter().map(|name| Path::new("examples").join(name));
    in_folder.chain(["edgeway.yaml".into()]).collect()
}

/// The same, with what they include.
fn files() -> Vec<PathBuf> {
    let sites = yaml_in(&conf().join("examples/sites-available"));
    let sites = sites
        .iter()
        .map(|name| Path::new("examples/sites-available").join(name));
    examples().into_iter().chain(sites).collect()
}

/// The file to check in order to see another one.
fn main_of(file: &Path) -> PathBuf {
    if file.starts_with("examples/sites-available") {
        "examples/sites.yaml".into()
    } else {
        file.to_owned()
    }
}

fn yaml_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let mut names: Vec<_> = entries
        .filter(|name| name.extension().is_some_and(|end| end == "yaml"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

/// A copy to be changed. Links stay links.
fn copy_of(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(folder, copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(path).unwrap(), copy).unwrap();
        } else if kind.is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_into(&path, &copy);
        } else {
            fs::copy(path, copy).unwrap();
        }
    }
}
