module taskbridge.dev/tools/probe

go 1.24.0
