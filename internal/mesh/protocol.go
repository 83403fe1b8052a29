package mesh

import "strings"

// ProtocolOf decides what is spoken on a Service's port: by appProtocol, then by the
// prefix of the port's name, else HTTP. An appProtocol that is not known is passed as
// bytes, since taking it for HTTP would break it.
func ProtocolOf(appProtocol, portName string) Protocol {
	switch strings.ToLower(appProtocol) {
	case "":
		return protocolOfName(portName)
	case "http", "http1", "http2", "h2c", "grpc", "grpc-web", "ws", "kubernetes.io/h2c", "kubernetes.io/ws":
		return HTTP
	case "tcp-server-first":
		return TCPServerFirst
	default:
		return TCP
	}
}

// protocolOfName knows the prefixes of Open Service Mesh, in its order.
func protocolOfName(portName string) Protocol {
	switch {
	case strings.HasPrefix(portName, "tcp-server-first-"):
		return TCPServerFirst
	case strings.HasPrefix(portName, "http-"):
		return HTTP
	case strings.HasPrefix(portName, "tcp-"):
		return TCP
	default:
		return HTTP // "grpc-" too
	}
}
