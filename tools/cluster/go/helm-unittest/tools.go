//go:build tools

// Package tools names the programs that are built here, so that `go mod tidy` keeps their modules.
package tools

import (
	_ "github.com/helm-unittest/helm-unittest/cmd/helm-unittest"
)
