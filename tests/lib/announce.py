"""Says to all on a network that an address is here now (gratuitous ARP). Call form: announce.py DEVICE ADDRESS; needs root"""
import socket, sys

s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0x0806))
mac, ip = s.getsockname()[4], socket.inet_aton(sys.argv[2])
for op in (1, 2):
    s.send(b"\xff" * 6 + mac + b"\x08\x06" + b"\x00\x01\x08\x00\x06\x04\x00" + bytes([op]) + mac + ip + b"\xff" * 6 + ip)
