// A page as the tutorial has it, which knows nothing of keys; its TURN password comes from /api/ice.
'use strict';

var room = new URLSearchParams(location.search).get('room');
var connectButton = document.querySelector('#connect');
var leaveButton = document.querySelector('#leave');
var localVideo = document.querySelector('#localvideo');
var remoteVideo = document.querySelector('#remotevideo');
var socket = null;
var peer = null;
var stream = null;

function say(data) { socket.emit('message', room, data); }

function createPeer(configuration) {
  peer = new RTCPeerConnection(configuration);
  peer.onicecandidate = function (event) {
    if (event.candidate) {
      say({ type: 'candidate', label: event.candidate.sdpMLineIndex, id: event.candidate.sdpMid, candidate: event.candidate.candidate });
    }
  };
  peer.ontrack = function (event) { remoteVideo.srcObject = event.streams[0]; };
  stream.getTracks().forEach(function (track) { peer.addTrack(track, stream); });
}

async function onMessage(roomid, data) {
  if (data.type === 'offer') {
    await peer.setRemoteDescription(new RTCSessionDescription(data));
    var answer = await peer.createAnswer();
    await peer.setLocalDescription(answer);
    say(answer);
  } else if (data.type === 'answer') {
    await peer.setRemoteDescription(new RTCSessionDescription(data));
  } else if (data.type === 'candidate') {
    await peer.addIceCandidate(new RTCIceCandidate({ sdpMLineIndex: data.label, sdpMid: data.id, candidate: data.candidate }));
  }
}

async function start() {
  stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  localVideo.srcObject = stream;
  var configuration = await (await fetch('/api/ice')).json();
  socket = io.connect();
  socket.on('joined', function () {
    connectButton.disabled = true;
    leaveButton.disabled = false;
    createPeer({ iceServers: configuration.iceServers });
  });
  socket.on('otherjoin', async function () {
    var offer = await peer.createOffer({ offerToReceiveVideo: 1, offerToReceiveAudio: 1 });
    await peer.setLocalDescription(offer);
    say(offer);
  });
  socket.on('message', onMessage);
  socket.emit('join', room);
}

connectButton.onclick = start;
leaveButton.onclick = function () { socket.emit('leave', room); };
