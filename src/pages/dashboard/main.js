document.title = 'Flux';
