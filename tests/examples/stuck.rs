//! A gateway with a filter that has a worker wait as long as a file is there, which no filter may do.

use std::{fs, path::PathBuf, process::ExitCode, thread, time::Duration};

use edgeway::prelude::*;

#[derive(Deserialize)]
struct Stuck {
    file: PathBuf,
}

#[async_trait]
impl Filter for Stuck {
    async fn request(&self, _: &mut Request<'_>) -> Result<Flow> {
        while fs::metadata(&self.file).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(Flow::Continue)
    }
}

fn main() -> ExitCode {
    edgeway::main(edgeway::standard().add("stuck", |config: Stuck, _| Ok(config)))
}
