package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openservicemesh/osm-operator/internal/xds/name"
)

// A sidecar keeps series of so many pods of each service that it calls, and of so many
// answers of theirs. What is over that is not counted; series that stand still make room
// for others.
const (
	mostHistograms = 1000
	mostCounters   = 5000
)

// callStats counts the requests that the application sends, by the names and the labels
// that Open Service Mesh's dashboards ask for (record 0023). Nothing that a peer says goes into
// a label but the status of its answer: the caller's labels come from the pod's
// environment, the callee's from what the control plane says of its endpoint.
func callStats(m *maker) *accesslogv3.AccessLog {
	workload := func(key string) string { return "%UPSTREAM_METADATA(" + name.WorkloadMetadata + ":" + key + ")%" }
	tag := func(n, format string) *statsv3.Config_Tag { return &statsv3.Config_Tag{Name: n, ValueFormat: format} }
	pods := []*statsv3.Config_Tag{
		tag("source_namespace", "%ENVIRONMENT(POD_NAMESPACE)%"),
		tag("source_kind", "%ENVIRONMENT(POD_CONTROLLER_KIND)%"),
		tag("source_name", "%ENVIRONMENT(POD_CONTROLLER_NAME)%"),
		tag("source_pod", "%ENVIRONMENT(POD_NAME)%"),
		tag("destination_namespace", workload(name.NamespaceKey)),
		tag("destination_kind", workload(name.KindKey)),
		tag("destination_name", workload(name.NameKey)),
		tag("destination_pod", "%UPSTREAM_HOST_NAME%"),
	}
	config := &statsv3.Config{
		// Not shared among listeners: Envoy 1.40 crashes on its way out after it validated a
		// scope that is.
		StatsScope: &typev3.Scope{
			EnableEviction: true, MaxCounters: wrapperspb.UInt32(mostCounters), MaxHistograms: wrapperspb.UInt32(mostHistograms),
		},
		Counters: []*statsv3.Config_Counter{{
			Stat:       &statsv3.Config_Stat{Name: "osm_request_total", Tags: append([]*statsv3.Config_Tag{tag("response_code", "%RESPONSE_CODE%")}, pods...)},
			ValueFixed: wrapperspb.UInt64(1),
		}},
		Histograms: []*statsv3.Config_Histogram{{
			Stat:        &statsv3.Config_Stat{Name: "osm_request_duration_ms", Tags: pods},
			Unit:        statsv3.Config_Histogram_Milliseconds,
			ValueFormat: "%DURATION%",
		}},
	}
	return &accesslogv3.AccessLog{
		Name:       "envoy.access_loggers.stats",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: m.pack(config)},
	}
}

// renaming gives the series of requests the names they had, on their way to who scrapes:
// Envoy puts envoy_ before every name, and Open Service Mesh wrote _ for - in labels, and
// unknown for what is not known. Whole lines are changed, as they come along.
const renaming = `local function labels(l)
  return (l:gsub('="%-?"', '="unknown"'):gsub("%-", "_"))
end
local function line(l)
  return (l:gsub("%b{}", labels))
end
function envoy_on_response(response)
  local rest = ""
  for chunk in response:bodyChunks() do
    local text = rest .. chunk:getBytes(0, chunk:length())
    local whole, begun = text:match("^(.*\n)([^\n]*)$")
    if whole == nil then
      whole, begun = "", text
    end
    rest = begun
    chunk:setBytes((whole:gsub("envoy_(osm_request_[^\n]*)", line)))
  end
end
`

func renamingFilter(m *maker) *hcmv3.HttpFilter {
	return m.httpFilter("envoy.filters.http.lua", &luav3.Lua{
		DefaultSourceCode: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: renaming}},
	})
}
