"""What the tests share: devices, fences, processes and system calls to look at; no test."""
