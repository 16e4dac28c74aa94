// Command pod is what runs in pods of the tests. Without words it holds a pod's namespaces open until it is told to stop,
// as the sandbox of every pod does. Otherwise it is a workload that asks something again and again, and prints the time and
// each answer that differs from the one before: the API server for a path with the token that the pod has, or an address
// whether it takes connections.
//
//	pod watch PATH        the status of each answer, until it is told to stop
//	pod wait PATH         the same, until the answer is 200
//	pod dial HOST:PORT    open or shut, until it is told to stop
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = "usage: pod [watch PATH|wait PATH|dial HOST:PORT]"
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) == 1 {
		<-stop
		return
	}
	if len(os.Args) != 3 {
		fail(usage)
	}
	answer := question(os.Args[1], os.Args[2])
	last := ""
	for {
		said := answer()
		if said != last {
			fmt.Println(time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), said)
			last = said
		}
		if os.Args[1] == "wait" && said == "200" {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// What is asked each time.
func question(word, object string) func() string {
	switch word {
	case "watch", "wait":
		client, err := connect()
		if err != nil {
			fail(err)
		}
		return func() string { return ask(client, object) }
	case "dial":
		return func() string { return dial(object) }
	}
	fail(usage)
	return nil
}

// Whether the address takes a connection. A firewall that drops what it refuses is told by the time that it takes.
func dial(address string) string {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "shut"
	}
	connection.Close()
	return "open"
}

func fail(why any) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func connect() (*http.Client, error) {
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &http.Client{Transport: transport, Timeout: 5 * time.Second}, nil
}

// The status of one answer, or what went wrong. The token is read each time: the kubelet renews it.
func ask(client *http.Client, path string) string {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err.Error()
	}
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	request, err := http.NewRequest(http.MethodGet, "https://"+server+path, nil)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	answer, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	answer.Body.Close()
	return fmt.Sprint(answer.StatusCode)
}
