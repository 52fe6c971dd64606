//! The `edgeway` program: the standard filters and nothing else.

fn main() -> std::process::ExitCode {
    edgeway::main(edgeway::standard())
}
