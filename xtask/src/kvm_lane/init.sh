#!/bin/busybox sh
# /init of the lane's outer system: loads KVM, runs every test program, and
# ends the machine with their verdict. Reports go to the second serial line.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t tmpfs tmp /tmp
$bb mount -t sysfs sys /sys
$bb mount -t debugfs debug /sys/kernel/debug
for module in irqbypass kvm kvm-amd; do
	$bb insmod /modules/$module.ko || { echo "no $module"; /bin/exit 1; }
done
[ -c /dev/kvm ] || { echo "no /dev/kvm"; /bin/exit 1; }
arguments=$($bb cat /arguments)
verdict=0
for program in /tests/*; do
	echo "${program#/tests/}:" >/dev/ttyS1
	LATEFORK_LANE=/lane $program --test-threads=1 --nocapture $arguments >/dev/ttyS1 2>&1 || verdict=1
done
$bb sleep 1 # until the serial line has sent all
/bin/exit $verdict
