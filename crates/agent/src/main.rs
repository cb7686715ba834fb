//! `edgewright-agent`: the command of a device.

fn main() -> std::process::ExitCode {
    edgewright_agent::cli::main()
}
