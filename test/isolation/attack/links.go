package main

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkAttempts try to access links outside of this network namespace. The first argument is the id of a process in the
// other network namespace, except for "set-alias".
var linkAttempts = map[string]attempt{
	"name-namespace":    ofProcess(func(pid int) error { _, err := namespaceID(pid); return err }),
	"list-links":        inNamespaceOf(listLinks),
	"list-addresses":    inNamespaceOf(listAddresses),
	"find-link":         inNamespaceOf(findLink),
	"add-link-by-id":    inNamespaceOf(addLinkByID),
	"add-port-by-id":    inNamespaceOf(addPort),
	"delete-link-by-id": inNamespaceOf(deleteLink),
	"add-link-by-pid":   addLinkByPID,
	"add-link-by-file":  addLinkByFile,
	"move-link-by-pid":  moveLink,
	"set-alias":         setAlias,
}

// newID is the id that namespaceID assigns to another network namespace, if that has no id in this network namespace.
const newID = 4321

// namespaceID returns the id of the network namespace of a process in this network namespace (nsid). It assigns one if
// there is none. The kernel has assigned one if a veth connects both namespaces.
func namespaceID(pid int) (int, error) {
	if id, err := netlink.GetNetNsIdByPid(pid); err == nil && id >= 0 {
		return id, nil
	}
	return newID, netlink.SetNetNsIdByPid(pid, newID)
}

// inNamespaceOf returns an attempt whose requests have the id of the other network namespace (IFLA_TARGET_NETNSID).
func inNamespaceOf(do func(id uint32, args []string) (string, error)) attempt {
	return func(args []string) (string, error) {
		pid, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		id, err := namespaceID(pid)
		if err != nil {
			return "", err
		}
		return do(uint32(id), args[1:])
	}
}

func target(id uint32) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(id)) }

func request(kind, flags int, attributes ...*nl.RtAttr) *nl.NetlinkRequest {
	r := nl.NewNetlinkRequest(kind, flags)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	for _, attribute := range attributes {
		r.AddData(attribute)
	}
	return r
}

func named(name string) *nl.RtAttr { return nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)) }

// listLinks lists the names of the other namespace's links.
func listLinks(id uint32, _ []string) (string, error) {
	messages, err := request(unix.RTM_GETLINK, unix.NLM_F_DUMP, target(id)).Execute(unix.NETLINK_ROUTE,
		unix.RTM_NEWLINK)
	if err != nil {
		return "", err
	}
	var names []string
	for _, message := range messages {
		attributes, err := nl.ParseRouteAttr(message[unix.SizeofIfInfomsg:])
		if err != nil {
			return "", err
		}
		for _, attribute := range attributes {
			if attribute.Attr.Type == unix.IFLA_IFNAME {
				names = append(names, strings.TrimRight(string(attribute.Value), "\x00"))
			}
		}
	}
	slices.Sort(names)
	return "has: " + strings.Join(names, " "), nil
}

// listAddresses reads the addresses in the other namespace. It does not return them.
func listAddresses(id uint32, _ []string) (string, error) {
	r := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	r.AddData(nl.NewIfAddrmsg(unix.AF_INET))
	const ifaTargetNetnsid = 0xa // IFA_TARGET_NETNSID, linux/if_addr.h
	r.AddData(nl.NewRtAttr(ifaTargetNetnsid, nl.Uint32Attr(id)))
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return "", err
	}
	defer socket.Close()
	// Without strict checking the kernel ignores the attribute.
	if err := unix.SetsockoptInt(socket.GetFd(), unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1); err != nil {
		return "", err
	}
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	_, err = r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWADDR)
	return "", err
}

func findLink(id uint32, args []string) (string, error) {
	_, err := request(unix.RTM_GETLINK, 0, target(id), named(args[0])).Execute(unix.NETLINK_ROUTE, 0)
	return "", err
}

// addLink adds a veth. The attributes in more select the network namespace of its first end.
func addLink(name string, more ...*nl.RtAttr) error {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	peer := data.AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name+"p"))
	attributes := append([]*nl.RtAttr{named(name), info}, more...)
	const flags = unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ACK
	_, err := request(unix.RTM_NEWLINK, flags, attributes...).Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func addLinkByID(id uint32, args []string) (string, error) { return "", addLink(args[0], target(id)) }

func addLinkByPID(args []string) (string, error) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	return "", addLink(args[1], nl.NewRtAttr(unix.IFLA_NET_NS_PID, nl.Uint32Attr(uint32(pid))))
}

func addLinkByFile(args []string) (string, error) {
	file, err := os.Open("/proc/" + args[0] + "/ns/net")
	if err != nil {
		return "", err
	}
	defer file.Close()
	return "", addLink(args[1], nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(file.Fd()))))
}

// addPort adds a veth whose first end is a port of a bridge in the other namespace. The bridge is given by its index.
func addPort(id uint32, args []string) (string, error) {
	index, err := strconv.Atoi(args[1])
	if err != nil {
		return "", err
	}
	return "", addLink(args[0], target(id), nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index))))
}

// moveLink moves a link of this namespace to the namespace of a process.
func moveLink(args []string) (string, error) {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return "", err
	}
	namespace := nl.NewRtAttr(unix.IFLA_NET_NS_PID, nl.Uint32Attr(uint32(pid)))
	_, err = request(unix.RTM_NEWLINK, unix.NLM_F_ACK, named(args[1]), namespace).Execute(unix.NETLINK_ROUTE, 0)
	return "", err
}

func deleteLink(id uint32, args []string) (string, error) {
	_, err := request(unix.RTM_DELLINK, unix.NLM_F_ACK, target(id), named(args[0])).Execute(unix.NETLINK_ROUTE, 0)
	return "", err
}

// setAlias changes the alias of a link in this namespace.
func setAlias(args []string) (string, error) {
	alias := nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(args[1]))
	_, err := request(unix.RTM_NEWLINK, unix.NLM_F_ACK, named(args[0]), alias).Execute(unix.NETLINK_ROUTE, 0)
	return "", err
}
