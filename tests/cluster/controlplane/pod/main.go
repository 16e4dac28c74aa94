// Command pod is what runs in pods of the tests. Without words it holds a pod's namespaces open until it is told to stop,
// as the sandbox of every pod does. Otherwise it is a workload: it asks the API server for a path with the token that the
// pod has, again and again, and prints the time and the status of each answer that differs from the one before.
//
//	pod watch PATH   until it is told to stop
//	pod wait PATH    until the answer is 200
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

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if len(os.Args) == 1 {
		<-stop
		return
	}
	if len(os.Args) != 3 || (os.Args[1] != "watch" && os.Args[1] != "wait") {
		fail("usage: pod [watch|wait PATH]")
	}
	client, err := connect()
	if err != nil {
		fail(err)
	}
	last := ""
	for {
		status := ask(client, os.Args[2])
		if status != last {
			fmt.Println(time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), status)
			last = status
		}
		if os.Args[1] == "wait" && status == "200" {
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
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
