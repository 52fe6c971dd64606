//! The list that gives filters their names.

use std::{any::Any, collections::BTreeMap, fmt, future::Future, path::Path, pin::Pin, sync::Arc};

use http::HeaderName;
use serde::de::DeserializeOwned;

use crate::{BuildError, Filter, Resources};

/// Filters by the names that they have in a configuration file.
///
/// Registration is a plain call in a plain list: no macro, no inventory, no order of start-up.
#[derive(Default)]
pub struct Filters {
    entries: BTreeMap<&'static str, Entry>,
}

impl Filters {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a filter, or replaces the one of this name.
    ///
    /// `build` turns a configuration (any type that `serde` can read) into the filter, once for
    /// every place in the file that names it. An unknown key, a value of the wrong type or a missing
    /// one is refused before `build` is called, with the place in the file; the filter's author need
    /// do nothing for that.
    ///
    /// `build` itself must not block, start anything, nor change anything outside (make a file, say):
    /// it also runs when a configuration is only checked, perhaps as another user. What is to run
    /// beside the requests is given to [`Build::background`].
    ///
    /// `when`, `unless`, `mode` and `name` stand beside any filter and are the gateway's: none can be called so.
    ///
    /// Keys are read by the names that `serde` knows. `#[serde(flatten)]`, `#[serde(untagged)]` and
    /// `#[serde(tag = "...")]` hide them: put `#[serde(deny_unknown_fields)]` on the types behind the
    /// latter two, and do without the first, or a misspelt key passes unseen.
    #[must_use]
    pub fn add<C, F, B>(self, name: &'static str, build: B) -> Self
    where
        C: DeserializeOwned + Send + 'static,
        F: Filter,
        B: Fn(C, &mut Build<'_>) -> Result<F, BuildError> + Send + Sync + 'static,
    {
        self.add_documented(name, "", build)
    }

    /// As [`add`](Self::add), with the text that `edgeway filters` shows: a line that says what it
    /// does (`asks for a name and a password`, without a period), an empty line, and the YAML that it
    /// takes, under the filter's name.
    #[must_use]
    pub fn add_documented<C, F, B>(
        mut self,
        name: &'static str,
        text: &'static str,
        build: B,
    ) -> Self
    where
        C: DeserializeOwned + Send + 'static,
        F: Filter,
        B: Fn(C, &mut Build<'_>) -> Result<F, BuildError> + Send + Sync + 'static,
    {
        let entry = Entry {
            name,
            text,
            read: Box::new(|value| Ok(Box::new(erased_serde::deserialize::<C>(value)?))),
            build: Box::new(move |config, stage| {
                let config = config
                    .downcast::<C>()
                    .map_err(|_| BuildError::new("the configuration is another filter's"))?;
                Ok(Arc::new(build(*config, stage)?))
            }),
        };
        self.entries.insert(name, entry);
        self
    }

    /// The filter of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All filters, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

/// A filter's configuration, read.
pub type Config = Box<dyn Any + Send>;

type Read = dyn Fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Config, erased_serde::Error>
    + Send
    + Sync;
type Construct =
    dyn Fn(Config, &mut Build<'_>) -> Result<Arc<dyn Filter>, BuildError> + Send + Sync;

/// One filter of the list.
pub struct Entry {
    name: &'static str,
    text: &'static str,
    read: Box<Read>,
    build: Box<Construct>,
}

impl Entry {
    /// The name in a configuration file.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it does, in one line; empty if its author did not say.
    pub fn summary(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The YAML that it takes; empty if its author did not say.
    pub fn yaml(&self) -> &'static str {
        self.text
            .split_once("\n\n")
            .map_or("", |(_, yaml)| yaml.trim_end())
    }

    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// What `serde` found wrong.
    pub fn read(
        &self,
        value: &mut dyn erased_serde::Deserializer<'_>,
    ) -> Result<Config, erased_serde::Error> {
        (self.read)(value)
    }

    /// Builds the filter from what [`read`](Self::read) has returned.
    ///
    /// # Errors
    ///
    /// What the filter found wrong.
    pub fn build(
        &self,
        config: Config,
        stage: &mut Build<'_>,
    ) -> Result<Arc<dyn Filter>, BuildError> {
        (self.build)(config, stage)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({})", self.name)
    }
}

/// Something that runs beside the requests while the configuration that asked for it is in force.
pub type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a filter may ask for while it is built.
pub struct Build<'a> {
    resources: &'a Resources,
    folder: &'a Path,
    reports: bool,
    place: Option<&'a str>,
    /// Warnings that the filter gave: a key of its configuration, if one is the culprit, and a text.
    pub warnings: Vec<BuildError>,
    /// What the filter wants to run beside the requests.
    pub background: Vec<Background>,
    /// Request headers that clients may not send.
    pub reserved: Vec<HeaderName>,
}

impl<'a> Build<'a> {
    /// A stage for one filter; `folder` is that of the configuration file.
    pub fn new(resources: &'a Resources, folder: &'a Path) -> Self {
        Self {
            resources,
            folder,
            reports: false,
            place: None,
            warnings: Vec::new(),
            background: Vec::new(),
            reserved: Vec::new(),
        }
    }

    /// As the stage of a filter in the chain of this route.
    #[must_use]
    pub fn on_route(mut self, route: &'a str) -> Self {
        self.place = Some(route);
        self
    }

    /// The name of the route whose chain the filter is built for; none for the filters of all routes.
    pub fn place(&self) -> Option<&str> {
        self.place
    }

    /// As the stage of a filter that only reports.
    #[must_use]
    pub fn reporting(mut self, reports: bool) -> Self {
        self.reports = reports;
        self
    }

    /// Whether the filter only reports what it would refuse (`mode: report`). The gateway sees to that, and
    /// few filters need to know: one that sends a body on as it judges it, for example.
    pub fn reports(&self) -> bool {
        self.reports
    }

    /// State that outlives this configuration.
    pub fn resources(&self) -> &'a Resources {
        self.resources
    }

    /// A path of the configuration as a path from here: relative ones begin at the folder of the
    /// configuration file.
    pub fn path(&self, path: impl AsRef<Path>) -> std::path::PathBuf {
        self.folder.join(path)
    }

    /// Tells the operator of something that works but should not be so. Shown like an error, with
    /// the place in the file.
    pub fn warn(&mut self, warning: BuildError) {
        self.warnings.push(warning);
    }

    /// Runs `task` beside the requests, from when this configuration is put to use until another one
    /// takes its place: then it is dropped, wherever it waits, though requests that began before may
    /// still run. Never started when a configuration is only checked.
    pub fn background(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.push(Box::pin(task));
    }

    /// Declares that this filter tells upstreams something by the request header `name`.
    ///
    /// Copies that clients send, and their twins that differ only in `_` for `-`, are removed from
    /// every request on every route, before any filter runs: an application must be able to trust
    /// the header wherever it sees it.
    pub fn reserve_header(&mut self, name: HeaderName) {
        self.reserved.push(name);
    }
}

impl fmt::Debug for Build<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Build")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}
