// Probe is a small server and client in one, for pods that show how the cluster's network behaves.
//
//	probe serve PORT          answers HTTP with the pod's host name until it is told to end
//	probe get URL             prints the body, within five seconds
//	probe lookup NAME         prints the addresses of a name, one per line, within two seconds
//	probe dial HOST:PORT      ends with status 0 if the port accepts within two seconds, with 1 if not
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fail(2, "usage: probe serve PORT | get URL | lookup NAME | dial HOST:PORT")
	}
	argument := os.Args[2]
	switch os.Args[1] {
	case "serve":
		serve(argument)
	case "get":
		get(argument)
	case "lookup":
		lookup(argument)
	case "dial":
		dial(argument)
	default:
		fail(2, "unknown command "+os.Args[1])
	}
}

func fail(status int, why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(status)
}

func serve(port string) {
	// In a container this is process 1, which no signal ends that it does not handle.
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-asked
		os.Exit(0)
	}()
	name, err := os.Hostname()
	if err != nil {
		fail(1, err)
	}
	http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) { fmt.Fprintln(answer, name) })
	server := &http.Server{Addr: ":" + port, ReadHeaderTimeout: 5 * time.Second}
	fail(1, server.ListenAndServe())
}

func get(url string) {
	client := &http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(url)
	if err != nil {
		fail(1, err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
		fail(1, err)
	}
	if answer.StatusCode != http.StatusOK {
		fail(1, answer.Status)
	}
}

func lookup(name string) {
	limited, end := context.WithTimeout(context.Background(), 2*time.Second)
	defer end()
	addresses, err := net.DefaultResolver.LookupHost(limited, name)
	if err != nil {
		fail(1, err)
	}
	for _, address := range addresses {
		fmt.Println(address)
	}
}

func dial(address string) {
	connection, err := net.DialTimeout("tcp", address, 2*time.Second)
	if err != nil {
		fail(1, err)
	}
	connection.Close()
}
