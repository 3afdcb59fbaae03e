// Coredns answers the names of Kubernetes services. It holds the plugins that the cluster's Corefile names and no
// others: those of the clouds are most of its size, and of the time that it takes to build.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func init() {
	// The order in which plugins see a request: what kubernetes does not know, template answers.
	dnsserver.Directives = []string{"ready", "health", "errors", "cache", "kubernetes", "template"}
}

func main() {
	coremain.Run()
}
