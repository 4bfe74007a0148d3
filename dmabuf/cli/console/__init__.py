"""What every subcommand says, and how: output, progress, sizes, failures."""
