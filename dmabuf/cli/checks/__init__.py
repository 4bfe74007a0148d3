"""What the subcommands try: exporters, ioctls, the kernel's configuration, memory's contents."""
