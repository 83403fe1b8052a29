package translate

import (
	"slices"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// fields are the 19 fields of Open Service Mesh's access log, which saved queries
// and log pipelines know by name. A value that is missing is null.
func fields() map[string]string {
	return map[string]string{
		"start_time":            "%START_TIME%",
		"method":                "%REQ(:METHOD)%",
		"path":                  "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
		"protocol":              "%PROTOCOL%",
		"response_code":         "%RESPONSE_CODE%",
		"response_code_details": "%RESPONSE_CODE_DETAILS%",
		"time_to_first_byte":    "%RESPONSE_DURATION%",
		"upstream_cluster":      "%UPSTREAM_CLUSTER%",
		"response_flags":        "%RESPONSE_FLAGS%",
		"bytes_received":        "%BYTES_RECEIVED%",
		"bytes_sent":            "%BYTES_SENT%",
		"duration":              "%DURATION%",
		"upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for":       "%REQ(X-FORWARDED-FOR)%",
		"user_agent":            "%REQ(USER-AGENT)%",
		"request_id":            "%REQ(X-REQUEST-ID)%",
		"requested_server_name": "%REQUESTED_SERVER_NAME%",
		"authority":             "%REQ(:AUTHORITY)%",
		"upstream_host":         "%UPSTREAM_HOST%",
	}
}

// makeLogs makes the log of requests, of connections, and of connections that were
// refused before any filter saw them: in clear where mTLS is spoken, to a port that is
// not served, or with a certificate that is not accepted. Refused ones say why. What may
// not leave the mesh is said to be so, with the address that it was meant for.
func (p *parts) makeLogs(m *maker) {
	p.requestLog = []*accesslogv3.AccessLog{stdout(m, fields())}
	p.connectionLog = p.requestLog
	p.callLog = p.requestLog
	if p.shared.RequestMetrics {
		p.callLog = append(slices.Clip(p.requestLog), callStats(m))
	}

	denied := fields()
	denied["response_code_details"] = "egress_denied"
	denied["upstream_host"] = "%DOWNSTREAM_LOCAL_ADDRESS%"
	p.deniedLog = []*accesslogv3.AccessLog{stdout(m, denied)}

	refused := fields()
	refused["response_code_details"] = "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"
	log := stdout(m, refused)
	log.Filter = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: &accesslogv3.OrFilter{
		Filters: []*accesslogv3.AccessLogFilter{
			{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
				ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
			}},
			transportFailed(m),
		},
	}}}
	p.refusalLog = []*accesslogv3.AccessLog{log}
}

func stdout(m *maker, format map[string]string) *accesslogv3.AccessLog {
	json := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	for key, value := range format {
		json.Fields[key] = structpb.NewStringValue(value)
	}
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: m.pack(&streamv3.StdoutAccessLog{
			AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
				Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: json},
			}},
		})},
	}
}

// transportFailed is true for connections whose handshake failed.
func transportFailed(m *maker) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name: "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: m.pack(&celv3.ExpressionFilter{
				Expression: "has(connection.transport_failure_reason)",
			})},
		},
	}}
}
