//! Which file answers a path.

use std::{os::fd::OwnedFd, sync::Arc, time::SystemTime};

use edgeway_sdk::Coding;
use smallvec::SmallVec;

use super::{
    Memory, Name, Root, Rules, disk,
    entity::{Entity, Tagging},
    memory::{Kept, Key},
    mime::Types,
    open::{Door, Failure, Kind, Opened, Seen, State, Wait, read, state_of},
    recent::{Note, Sight},
};

/// A folder, and how files in it are looked for.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) root: Root,
    pub(crate) rules: Rules,
    /// What of a folder answers for it, the first that is there.
    pub(crate) index: Box<[Box<[u8]>]>,
    /// Codings of which there may be siblings, the best first.
    pub(crate) precompressed: Box<[Coding]>,
    /// Whether folders without an index are shown.
    pub(crate) listing: bool,
    pub(crate) types: Types,
    pub(crate) tagging: Tagging,
    pub(crate) memory: Option<Arc<Memory>>,
    /// Files of at most so many bytes are read as a whole.
    pub(crate) small: usize,
}

/// What is looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// In turn.
    pub(crate) candidates: SmallVec<[Candidate; 2]>,
    /// Codings that the client takes, the best first.
    pub(crate) codings: SmallVec<[Coding; 3]>,
}

/// A name to look for.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: Name,
    pub(crate) form: Form,
}

/// As what something is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    File,
    /// A folder, by its index.
    Folder,
    /// The same, but the client has left the slash at its end out.
    FolderWithoutSlash,
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    File(File),
    /// A folder, that the client has to ask for with a slash.
    SlashMissing,
    /// A folder that is shown, open.
    Folder(OwnedFd, Name),
    Nothing,
}

/// A file that was found.
#[derive(Clone, Debug)]
pub(crate) enum File {
    /// A small one, which may be kept.
    Small(Arc<Kept>),
    Large(Arc<Large>),
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) descriptor: OwnedFd,
    pub(crate) entity: Entity,
}

impl File {
    fn large(entity: Entity, descriptor: OwnedFd) -> Self {
        Self::Large(Arc::new(Large { descriptor, entity }))
    }

    pub(crate) fn entity(&self) -> &Entity {
        match self {
            Self::Small(kept) => &kept.entity,
            Self::Large(large) => &large.entity,
        }
    }
}

impl Files {
    /// Looks for files, and waits for the disk only if it has to: on a thread for that.
    ///
    /// # Errors
    ///
    /// What is there can't be opened or read.
    pub(crate) async fn find(self: &Arc<Self>, look: Look) -> Result<Found, Failure> {
        match self.find_by(&look, Wait::Never) {
            Err(Failure::WouldWait) => {}
            found => return found,
        }
        let files = Arc::clone(self);
        disk::run(move || files.find_by(&look, Wait::Disk)).await?
    }

    fn find_by(&self, look: &Look, wait: Wait) -> Result<Found, Failure> {
        let mut search = Search {
            files: self,
            codings: &look.codings,
            wait,
            door: None,
            now: SystemTime::now(),
            second: self.memory.as_ref().map_or(0, |memory| memory.now()),
        };
        for Candidate { name, form } in &look.candidates {
            match search.find(name, *form) {
                Ok(Found::Nothing) | Err(Failure::Missing) => {}
                found => return found,
            }
        }
        Ok(Found::Nothing)
    }
}

/// What is where a name leads.
enum Got {
    File(File),
    /// A large file that was noted: if a sibling is sent, nobody has to open it.
    Noted(Arc<Note>),
    Folder,
}

/// Looks for one thing: all of it in the folder as it was at the beginning.
struct Search<'f> {
    files: &'f Files,
    codings: &'f [Coding],
    wait: Wait,
    door: Option<Door>,
    now: SystemTime,
    /// In which it began, as the memory counts. What is found counts as seen then: it may be moved away right after
    /// that.
    second: u32,
}

impl Search<'_> {
    fn find(&mut self, name: &Name, form: Form) -> Result<Found, Failure> {
        match form {
            Form::File => {
                let got = self.get(name, None)?;
                let file = match got {
                    Got::Folder => None,
                    Got::File(_) | Got::Noted(_) => match self.coded(name)? {
                        None => self.file(name, None, got)?,
                        sibling => sibling,
                    },
                };
                Ok(file.map_or(Found::Nothing, Found::File))
            }
            Form::Folder => self.folder(name),
            Form::FolderWithoutSlash => match self.folder(name)? {
                Found::File(_) | Found::Folder(..) => Ok(Found::SlashMissing),
                nothing => Ok(nothing),
            },
        }
    }

    /// Its index, or itself if it is to be shown.
    fn folder(&mut self, name: &Name) -> Result<Found, Failure> {
        let files = self.files;
        for index in &files.index {
            match self.find(&name.below(index), Form::File) {
                Ok(Found::Nothing) | Err(Failure::Missing) => {}
                found => return found,
            }
        }
        if !files.listing {
            return Ok(Found::Nothing);
        }
        match self.open(name)? {
            Opened {
                kind: Kind::Folder,
                descriptor,
                ..
            } => Ok(Found::Folder(descriptor, name.clone())),
            _ => Ok(Found::Nothing),
        }
    }

    /// The sibling of a file in the coding that the client likes best, if there is any.
    fn coded(&mut self, name: &Name) -> Result<Option<File>, Failure> {
        for coding in self.codings {
            let sibling = name.with_end(end(*coding));
            let of = Some((name, *coding));
            let got = self.get(&sibling, of);
            match got.and_then(|got| self.file(&sibling, of, got)) {
                Ok(None) | Err(Failure::Missing | Failure::Forbidden) => {}
                found => return found,
            }
        }
        Ok(None)
    }

    /// The file that is where a name leads, opened if it is large.
    fn file(
        &mut self,
        name: &Name,
        coding: Option<(&Name, Coding)>,
        got: Got,
    ) -> Result<Option<File>, Failure> {
        let note = match got {
            Got::File(file) => return Ok(Some(file)),
            Got::Folder => return Ok(None),
            Got::Noted(note) => note,
        };
        let (root, wait) = (&self.files.root, self.wait);
        let opened = root.reopen(self.door()?, name, wait)?;
        if opened.kind == Kind::Folder {
            return Ok(None);
        }
        match &note.found {
            Some(sight) if sight.state == opened.state => {
                let entity = sight.entity.clone();
                Ok(Some(File::large(entity, opened.descriptor)))
            }
            _ => {
                let original = coding.map_or(name, |(original, _)| original);
                self.take(&note.key, original, opened).map(Some)
            }
        }
    }

    /// What is where a name leads, as it is remembered if it is still the same. Of a sibling the file beside which it
    /// is has to be told.
    fn get(&mut self, name: &Name, coding: Option<(&Name, Coding)>) -> Result<Got, Failure> {
        let key = Key {
            name: name.clone(),
            coding: coding.map(|(_, coding)| coding),
        };
        if let Some(kept) = self.kept(name, &key) {
            return Ok(Got::File(File::Small(kept)));
        }
        if let Some(noted) = self.noted(name, &key) {
            return noted;
        }
        let opened = match self.open(name) {
            // Most files have no sibling, and most clients ask for one.
            Err(Failure::Missing) if coding.is_some() => {
                self.note(&key, None);
                return Err(Failure::Missing);
            }
            opened => opened?,
        };
        if opened.kind == Kind::Folder {
            return Ok(Got::Folder);
        }
        let original = coding.map_or(name, |(original, _)| original);
        self.take(&key, original, opened).map(Got::File)
    }

    /// What is kept of a file, if that is still the same.
    fn kept(&mut self, name: &Name, key: &Key) -> Option<Arc<Kept>> {
        let files = self.files;
        let memory = files.memory.as_ref()?;
        let kept = memory.find(key)?;
        if memory.is_remembered(&kept) && files.root.look(name, self.wait) == Ok(kept.state) {
            return Some(kept);
        }
        match self.see(name) {
            Ok(seen) if seen.state == kept.state => {
                memory.seen(&kept, self.second);
                return Some(kept);
            }
            Ok(seen) if !self.is_small(&seen.state) => memory.forget(key),
            Err(Failure::Missing) => memory.forget(key),
            _ => {}
        }
        None
    }

    /// What was found shortly before, and is not kept. None if that is not known, or may not be so any more.
    fn noted(&self, name: &Name, key: &Key) -> Option<Result<Got, Failure>> {
        let files = self.files;
        let note = files.memory.as_ref()?.noted(key)?;
        let now = files.root.look(name, self.wait);
        match &note.found {
            Some(sight) => (now == Ok(sight.state)).then(|| Ok(Got::Noted(note))),
            None => (now == Err(Failure::Missing)).then_some(Err(Failure::Missing)),
        }
    }

    fn note(&self, key: &Key, found: Option<Sight>) {
        if let Some(memory) = &self.files.memory {
            memory.note(key, found, self.second);
        }
    }

    /// Finds something without opening it.
    fn see(&mut self, name: &Name) -> Result<Seen, Failure> {
        let (root, wait) = (&self.files.root, self.wait);
        root.see(self.door()?, name, wait)
    }

    fn open(&mut self, name: &Name) -> Result<Opened, Failure> {
        let (root, wait) = (&self.files.root, self.wait);
        root.open(self.door()?, name, wait)
    }

    fn door(&mut self) -> Result<&Door, Failure> {
        Ok(match &mut self.door {
            Some(door) => door,
            none => none.insert(self.files.root.door(self.wait)?),
        })
    }

    /// Makes a file of what was opened, and keeps it if it is small.
    fn take(&self, key: &Key, original: &Name, opened: Opened) -> Result<File, Failure> {
        let files = self.files;
        let mut state = opened.state;
        for _ in 0..TRIES {
            let length = usize::try_from(state.stamp.length).unwrap_or(usize::MAX);
            if !self.is_small(&state) {
                break;
            }
            let mut content = vec![0; length];
            let read = read(&opened.descriptor, 0, &mut content, self.wait)?;
            let after = state_of(&opened.descriptor)?;
            if after != state || read < length {
                state = after;
                continue;
            }
            let entity = self.entity(original, &state, key.coding);
            let kept = Arc::new(Kept::new(state, entity, content.into()));
            // What was changed just now could be changed again, and look the same.
            if let Some(memory) = &files.memory
                && state.stamp.is_settled(self.now)
            {
                memory.seen(&kept, self.second);
                memory.keep(key, Arc::clone(&kept));
            }
            return Ok(File::Small(kept));
        }
        let entity = self.entity(original, &state, key.coding);
        // As above, and what is said of it would not stay so.
        if state.stamp.is_settled(self.now) {
            let entity = entity.clone();
            self.note(key, Some(Sight { state, entity }));
        }
        Ok(File::large(entity, opened.descriptor))
    }

    fn is_small(&self, state: &State) -> bool {
        state.stamp.length <= self.files.small as u64
    }

    fn entity(&self, original: &Name, state: &State, coding: Option<Coding>) -> Entity {
        let files = self.files;
        Entity {
            stamp: state.stamp,
            etag: files.tagging.tag(&state.stamp, coding, self.now),
            content_type: files.types.of(original.as_bytes()),
            coding,
            varies: !files.precompressed.is_empty(),
        }
    }
}

/// How often to read a file that is written meanwhile. Then it is sent as it comes.
const TRIES: usize = 3;

/// The end of the name of a sibling.
fn end(coding: Coding) -> &'static str {
    match coding {
        Coding::Gzip => ".gz",
        Coding::Brotli => ".br",
        Coding::Zstd => ".zst",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::files::Symlinks;

    #[test]
    fn what_has_just_taken_the_place_of_a_noted_file_is_not_sent_as_that_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("noted"), "as it was").unwrap();
        fs::write(folder.path().join("now"), "new").unwrap();
        let files = Files {
            root: Root::new(folder.path().to_owned(), Symlinks::Inside),
            rules: Rules::default(),
            index: Box::default(),
            precompressed: Box::default(),
            listing: false,
            types: Types::default(),
            tagging: Tagging::Strong,
            memory: None,
            small: 0,
        };
        let mut search = Search {
            files: &files,
            codings: &[],
            wait: Wait::Disk,
            door: None,
            now: SystemTime::now(),
            second: 0,
        };
        let name = |path| Name::parse(path, Rules::default()).unwrap();
        let state = search.open(&name("noted")).unwrap().state;
        let entity = search.entity(&name("noted"), &state, None);
        let key = Key {
            name: name("now"),
            coding: None,
        };
        let note = Note {
            key,
            found: Some(Sight { state, entity }),
            second: 0,
        };
        let file = search.file(&name("now"), None, Got::Noted(Arc::new(note)));
        let file = file.unwrap().expect("it is there");
        assert_eq!(file.entity().stamp.length, 3);
    }
}
