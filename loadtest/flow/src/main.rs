//! Writes flow files: `bench-flow FOLDER MESSAGES SEED NAME...`; without arguments, lists the flows.

use std::env;
use std::path::Path;
use std::process::ExitCode;

use bench_flow::generate::generate;
use bench_flow::shapes::{SHAPES, shape};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.is_empty() {
        for shape in SHAPES {
            println!("{}\t{}", shape.name, shape.about);
        }
        return ExitCode::SUCCESS;
    }
    match write(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &[String]) -> Result<(), String> {
    let [folder, messages, seed, names @ ..] = arguments else {
        return Err("usage: bench-flow FOLDER MESSAGES SEED NAME...".into());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let (messages, seed) = (number(messages)?, number(seed)?);
    let messages = usize::try_from(messages).map_err(|error| error.to_string())?;
    for name in names {
        let shape = shape(name).ok_or_else(|| format!("{name}: no such flow"))?;
        let path = Path::new(folder).join(format!("{name}.flow"));
        let flow = generate(&shape, seed, messages);
        flow.write(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{name}\t{}\t{}\t{}", flow.messages.len(), flow.total.trades, flow.total.open);
    }
    Ok(())
}
